"""Image file: where on disk the pixels of an image layer are, as one file or a folder of frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.file_identity import identity
from napari_imos._walk import shape_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Image


FILE = "imos_file"
"""Key of a layer's metadata: the file that it is a channel of, which napari does not know of it."""


def file_of(image: Image) -> str:
    """Return the path from which the pixels of an image came; empty if there is none.

    Parameters
    ----------
    image : Image
        Layer.
    """
    return str(image.metadata.get(FILE) or image.source.path or "")


def file_read_from(image: Image) -> Path | None:
    """Return the path from which pixels of an image are read whenever somebody asks for them.

    None if they are in memory, or nobody knows where they come from.

    Parameters
    ----------
    image : Image
        Layer.
    """
    data: Any = image.data
    pixels: Any = data[0] if image.multiscale else data
    if isinstance(pixels, np.ndarray):
        return None
    if known := file_of(image):
        return Path(known)
    root = getattr(getattr(pixels, "store", None), "root", None)
    return root / pixels.path if isinstance(root, Path) else None


def folder_of_frames(image: Image) -> Path | None:
    """Return the folder whose files are slices of an image; None if it is one file, or none.

    Of files that were opened as a stack, napari notes the first one only.

    Parameters
    ----------
    image : Image
        Layer, as it was opened.
    """
    if not (known := file_of(image)):
        return None
    path = Path(known)
    if path.is_dir():
        return path
    # readers may add axes of length 1, which make no stack of a file
    return path.parent if _long(shape_of(image)[:-2]) > _long_in(path, image) else None


def file_on_record(image: Image) -> str:
    """Return the path by which an image can be read again; empty if nobody knows one.

    Of a stack of files that is their folder, if it holds nothing else, and in this order.

    Parameters
    ----------
    image : Image
        Layer.
    """
    known, folder = file_of(image), folder_of_frames(image)
    if folder is None or folder == Path(known):
        return known
    return str(folder) if _shows(image, Path(known)) else ""


def _shows(image: Image, first: Path) -> bool:
    """Whether an image shows the folder of its first file, as far as two more of them tell."""
    from imos_core.formats.images import ImageFolder, files_of

    data: Any = image.data
    files, last = files_of(first.parent), len(data) - 1
    if len(files) != len(data) or files[0] != first:
        return False
    try:
        frames = ImageFolder(files)
        return all(np.array_equal(np.asarray(data[k]), frames[k]) for k in (last // 2, last))
    except Exception:  # whoever reads them next says what is wrong with them
        return False


def is_among_frames(file: Path, image: Image) -> bool:
    """Whether a file is one of an image's frames, or would become one.

    Parameters
    ----------
    file : Path
        File that may be there or not.
    image : Image
        Layer, as it was opened.
    """
    from imos_core.formats.images import is_slice_name

    folder = folder_of_frames(image)
    if folder is None or not is_slice_name(file):
        return False
    # a link leads out of the folder, but stands in it as a frame
    return identity(folder) in (identity(file.resolve().parent), identity(file.parent))


def _long(lengths: Iterable[int]) -> int:
    """How many axes are longer than 1."""
    return sum(n > 1 for n in lengths)


def _long_in(path: Path, image: Image) -> int:
    """Axes longer than 1 that one file has beside rows and columns; all if nobody can tell."""
    from imos_core.formats.images import is_slice_name
    from imos_core.formats.tiff import axes_of

    if not is_slice_name(path) or not path.is_file():
        return image.ndim
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 0
    try:
        letters, lengths = axes_of(path)
    except Exception:  # damaged files: whoever reads them says so
        return image.ndim
    others = (n for a, n in zip(letters, lengths, strict=True) if a not in "yx")
    return _long(others) - bool(image.rgb)
