"""Made with: by which models, adapters and images results are told apart."""

from __future__ import annotations

import zlib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari.layers import Image

_BOX = 256  # rows and columns of an image that are looked at


def made_with(image: Image, options: Mapping[str, Any], channels: Iterable[Any] | None) -> str:
    """Return what tells results of two runs with the same anchors apart.

    Files are known by size and time, as another adapter may be learned under the same name; images
    by what they hold, as they may be opened again from another folder, or under another name.

    Parameters
    ----------
    image : Image
        Layer.
    options : mapping
        Keywords of `imos_core.propagate`.
    channels : iterable, optional
        See `Picture`.
    """
    parts: list[Any] = [_mark_of_file(options.get(name)) for name in ("model", "adapter")]
    parts.append(_mark_of_image(image))
    parts += [_mark_of_image(one) if hasattr(one, "data") else one for one in channels or ()]
    return "|".join(str(part) for part in parts)


def name_of_model(given: Any) -> str:
    """Return what a record says of a model or adapter: its name or path, or which network it is."""
    if given is None or isinstance(given, str | PathLike):
        return str(given or "")
    from imos_core.tensor_files import fingerprint_of

    return f"{type(given).__name__} {fingerprint_of(given.state_dict())[:16]}"


def _mark_of_file(given: Any) -> str:
    """Return the name or path of a model or adapter, and by what its file is known again."""
    name = name_of_model(given)
    try:
        told = Path(name).stat() if name else None
    except (OSError, ValueError):  # a name, or a file that is gone: whoever reads it says so
        told = None
    return f"{name} {told.st_size} {told.st_mtime_ns}" if told else name


def _mark_of_image(image: Image) -> int:
    """Checksum the middle of an image: a part of one slice, as it may be read from afar."""
    data: Any = image.data
    pixels: Any = data[0] if image.multiscale else data
    last = pixels.ndim - bool(image.rgb)
    where = [
        slice(max(n // 2 - _BOX // 2, 0), n // 2 + _BOX // 2) if axis >= last - 2 else n // 2
        for axis, n in enumerate(pixels.shape[:last])
    ]
    try:
        # in one type, as readers differ in the order of bytes
        held = np.asarray(pixels[tuple(where)]).astype(np.float64)
    except Exception:  # whoever reads it next says what is wrong with it
        return 0
    return zlib.crc32(np.ascontiguousarray(held))
