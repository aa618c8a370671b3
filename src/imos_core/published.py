"""Published weights of others: where they lie, and where a copy is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path


@dataclass(frozen=True)
class Published:
    """Weights that somebody has published."""

    name: str
    """Name for `load_model`, once they are fetched."""
    description: str
    """One sentence."""
    licence: str
    """Licence, as stated there."""
    url: str
    """Where the file lies."""

    @property
    def path(self) -> Path | None:
        """Where a fetched copy lies; None where a person has no folder for data."""
        try:
            folder = Path(user_data_path("napari-imos", appauthor=False))
        except RuntimeError:  # neither HOME nor an entry in the list of users: containers
            return None
        if not folder.is_absolute():  # what older versions make of that
            return None
        return folder / "weights" / f"{self.name}.safetensors"


PUBLISHED = (
    Published(
        "xmem",
        "The network of the paper before its medical training: XMem (Cheng and Schwing, ECCV "
        "2022), trained on photographs and natural video.",
        "MIT",
        "https://github.com/hkchengrex/XMem/releases/download/v1.0/XMem.pth",
    ),
)

_ALSO = {"imos-r50": "xmem"}
"""Presets of which weights are published, and their names."""


def named(name: str) -> str:
    """Return the name under which weights are known: a preset stands for those published for it."""
    return _ALSO.get(name, name)
