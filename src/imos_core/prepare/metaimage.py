"""MetaImage (.mhd with .raw or .zraw): a short text header and the values it describes."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError
from imos_core.prepare.sources import usable_size

if TYPE_CHECKING:
    import numpy.typing as npt

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_LONGEST_HEADER = 2**16


def read_metaimage(path: Path) -> tuple[npt.NDArray[Any], tuple[float, ...]]:
    """Read a MetaImage.

    Parameters
    ----------
    path : Path
        The ``.mhd`` file (or ``.mha``, which holds the values too).

    Returns
    -------
    data : ndarray
        Axes as in the header, which names the fastest first: `(x, y)` or `(x, y, z)`.
    spacing : tuple of float
        Size of a voxel along them; 1 where the header does not say.

    Raises
    ------
    FileError
        If header or values cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST_HEADER)
        header, length = _header(start)
        shape = tuple(int(n) for n in header["dimsize"].split())
        kind = _TYPES[header["elementtype"].upper()]
        channels = int(header.get("elementnumberofchannels", "1"))
        sizes = header.get("elementspacing", header.get("elementsize", "")).split()
        spacing = tuple(usable_size(float(s)) for s in sizes) or (1.0,) * len(shape)
        skipped = int(header.get("headersize", "0"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: check that it is there.") from error
    except (KeyError, ValueError) as error:
        raise FileError(f"{path} is no complete MetaImage header: copy it again.") from error
    if channels != 1 or len(spacing) != len(shape) or min(shape, default=0) < 1:
        raise FileError(f"{path} describes no grey image: its size is {shape}.")
    order = header.get("binarydatabyteordermsb", header.get("elementbyteordermsb", "false"))
    dtype = np.dtype((">" if order.lower() == "true" else "<") + kind)
    count = math.prod(shape)
    name = header["elementdatafile"]
    if name.upper() == "LOCAL":
        content = path.read_bytes()[length:]
    else:
        content = _companion(path, name).read_bytes()
    if header.get("compresseddata", "false").lower() == "true":
        try:
            content = zlib.decompress(content)
        except zlib.error as error:
            raise FileError(f"The values of {path} are damaged: copy {name} again.") from error
    elif skipped == -1:  # the values are what ends the file
        content = content[-count * dtype.itemsize :]
    elif skipped > 0:
        content = content[skipped:]
    if len(content) < count * dtype.itemsize:
        raise FileError(f"The values of {path} are cut short: copy {name} again.")
    values = np.frombuffer(content, dtype, count).reshape(shape[::-1]).transpose()
    return values.astype(dtype.newbyteorder("=")), spacing


def _header(start: bytes) -> tuple[dict[str, str], int]:
    """Fields by lower-case name, and the length of the header in bytes."""
    fields: dict[str, str] = {}
    length = 0
    for line in start.split(b"\n"):
        length += len(line) + 1
        key, separator, value = line.decode("latin-1").partition("=")
        if not separator:
            continue
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":  # always the last
            return fields, length
    raise ValueError("there is no ElementDataFile")


def _companion(path: Path, name: str) -> Path:
    """File of the values, in whatever letter case, also after both files were renamed."""
    wanted = Path(name.replace("\\", "/")).name.lower()
    beside = {p.name.lower(): p for p in path.parent.iterdir()}
    stem = path.name[: -len(path.suffix)].lower()
    for candidate in (wanted, f"{stem}.raw", f"{stem}.zraw"):
        if candidate in beside:
            return beside[candidate]
    raise FileError(f"{name} is missing, which holds the values of {path}: put it beside.")
