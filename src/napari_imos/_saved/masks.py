"""Masks as text, which JSON can hold: few bytes for each object."""

from __future__ import annotations

import base64
import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def packed(mask: npt.NDArray[np.bool_]) -> str:
    """Write a mask, `(H, W)`, as text."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode("ascii")


def unpacked(text: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Read what `packed` wrote.

    Raises
    ------
    ValueError
        If it is something else.
    """
    count = math.prod(shape)
    most = -(-count // 8)
    try:
        held = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(held) != most:
        raise ValueError(f"a mask has {len(held)} bytes, not {most}")
    bits = np.unpackbits(np.frombuffer(held, np.uint8), count=count)
    return bits.reshape(shape).astype(bool)
