"""Settings: choices that are remembered, in napari's own settings of plugins (napari >= 0.9)."""

from __future__ import annotations

from typing import Any

_PLUGIN, _GROUP = "napari-imos", "loop"


def remembered(name: str, default: Any) -> Any:
    """Return a remembered choice.

    Parameters
    ----------
    name : str
        Name in the manifest's configuration.
    default : object
        What to return where napari remembers nothing.
    """
    group = _group()
    return default if group is None else getattr(group, name, default)


def remember(name: str, value: Any) -> None:
    """Remember a choice; napari writes it to disk."""
    group = _group()
    if group is not None and hasattr(group, name):
        setattr(group, name, value)


def _group() -> Any:
    try:
        from napari.settings import get_plugin_settings

        return getattr(get_plugin_settings(_PLUGIN), _GROUP)
    except (ImportError, KeyError, AttributeError):
        # napari before 0.9, or a viewer that does not know the plugin's manifest
        return None
