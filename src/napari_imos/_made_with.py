"""Made with: by which models, adapters and channels results are told apart."""

from __future__ import annotations

import zlib
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def made_with(options: Mapping[str, Any], channels: Iterable[Any] | None) -> str:
    """Return what tells results of two runs with the same anchors apart.

    Files are known by what they hold: another adapter may be learned under the same name.

    Parameters
    ----------
    options : mapping
        Keywords of `imos_core.propagate`.
    channels : iterable, optional
        See `Picture`.
    """
    parts = [_mark_of(options.get(name)) for name in ("model", "adapter")]
    if channels:
        parts.append(names_of(channels))
    return "|".join(parts)


def names_of(channels: Iterable[Any]) -> str:
    """Return what a record says of channels: names of layers, or positions."""
    return ", ".join(str(getattr(one, "name", one)) for one in channels)


def name_of_model(given: Any) -> str:
    """Return what a record says of a model or adapter: its name or path, or which network it is."""
    if given is None or isinstance(given, str | PathLike):
        return str(given or "")
    from imos_core.tensor_files import fingerprint_of

    return f"{type(given).__name__} {fingerprint_of(given.state_dict())[:16]}"


def _mark_of(given: Any) -> str:
    """Return the name or path of a model or adapter, with a checksum of its file."""
    name = name_of_model(given)
    try:
        path = Path(name)
        if not name or not path.is_file():
            return name
        told = path.stat()
        return f"{name} {_checksum(path, told.st_size, told.st_mtime_ns)}"
    except (OSError, ValueError):  # whoever reads it says what is wrong with it
        return name


@lru_cache
def _checksum(path: Path, _size: int, _changed: int) -> int:
    """Checksum a file, once for as long as it is not written to."""
    return zlib.crc32(path.read_bytes())
