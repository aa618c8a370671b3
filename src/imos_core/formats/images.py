"""A folder of images, one slice each, in the order of the numbers in their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image

from imos_core.errors import FileError, PromptError
from imos_core.formats import dicom
from imos_core.formats.left_behind import names_in
from imos_core.formats.tiff import check_codecs
from imos_core.formats.tiff_series import meant, parts_of
from imos_core.formats.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

_LIST = ".imos-slices"
"""File of a result that lists its slices: a folder that holds others is somebody else's."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Images that count as slices."""
_MODES = {"LA": "L", "CMYK": "RGB", "YCbCr": "RGB"}
_OF_IMAGES = _MODES | {"P": "RGB", "PA": "RGB"}
_OF_LABELS = _MODES | {"PA": "P"}


class ImageFolder:
    """Files as one `(T, H, W)` or `(T, H, W, C)` array; a file is read when its slice is.

    Parameters
    ----------
    files : list of Path or None
        One per slice; None for slices of zeros.
    labels : bool
        Whether they hold labels: of files with a palette, its indices, not its colours.

    Raises
    ------
    FileError
        If a file cannot be read, or is not like the first.
    PromptError
        If labels are in a format that changes them.
    """

    def __init__(self, files: Sequence[Path | None], *, labels: bool = False) -> None:
        self._files, self._labels = files, labels
        if labels:
            _refuse_jpeg(files)
        first = self._read(next(file for file in files if file is not None))
        self._plane = first.shape
        self.shape = (len(files), *first.shape)
        self.dtype = first.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        if keys and keys[0] is Ellipsis:
            keys = (slice(None),) if len(keys) == 1 else (slice(None), *keys)
        which = np.arange(len(self._files))[keys[0]]
        if which.ndim == 0:
            part: npt.NDArray[Any] = self._slice(int(which))[tuple(keys[1:])]
            return part
        return np.stack([self._slice(int(k))[tuple(keys[1:])] for k in which])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def spread(self, places: Sequence[int], length: int) -> ImageFolder:
        """Return them as slices of something longer, with zeros between them.

        Parameters
        ----------
        places : sequence of int
            Where each file goes.
        length : int
            How many slices there are then.
        """
        at = dict(zip(places, self._files, strict=True))
        return ImageFolder([at.get(k) for k in range(length)], labels=self._labels)

    def _read(self, file: Path) -> npt.NDArray[Any]:
        return _read_one(file, _OF_LABELS if self._labels else _OF_IMAGES)

    def _slice(self, k: int) -> npt.NDArray[Any]:
        file = self._files[k]
        if file is None:
            return np.zeros(self._plane, self.dtype)
        plane = self._read(file)
        for what, own, first in (
            ("shape", plane.shape, self._plane),
            ("type", plane.dtype, self.dtype),
        ):
            if own != first:
                raise FileError(
                    f"{file} has {what} {own}, but the first image of its folder has "
                    f"{first}: all must be alike."
                )
        return plane


def read(path: Path, *, labels: bool = False) -> Volume:
    """Read a folder of images lazily; `labels` as `ImageFolder` has it."""
    files = files_of(path)
    if not files:
        dicom.refuse(path)
        raise FileError(f"{path} holds no images: it needs .png, .jpg or .tif files.")
    array = ImageFolder(files, labels=labels)
    names = tuple(f.stem for f in files)
    return Volume(array, None, array.ndim == 4, None, "images", {"names": names})


def files_of(path: Path) -> list[Path]:
    """Return the slices of a folder, in their order."""
    return sorted((f for f in path.iterdir() if _is_slice(f)), key=_by_number)


def write(path: Path, labels: npt.NDArray[Any], like: Volume) -> None:
    """Write one image per slice: PNG where it holds the dtype, else TIFF."""
    names = like.extra["names"] if like.format == "images" else ()
    if len(set(names)) != len(labels):  # s0.png and s0.tif would become one
        names = tuple(f"slice_{k:04d}" for k in range(len(labels)))
    path.mkdir()
    as_png = labels.dtype in (np.uint8, np.uint16)
    files = [f"{name}.png" if as_png else f"{name}.tif" for name in names]
    for name, plane in zip(files, labels, strict=True):
        if as_png:
            Image.fromarray(plane).save(path / name)
        else:
            tifffile.imwrite(path / name, plane, compression="zlib")
    # names that are not UTF-8 stay what they are
    (path / _LIST).write_text("\n".join(files), encoding="utf-8", errors="surrogateescape")


def is_ours_to_replace(path: Path) -> bool:
    """Whether a folder is empty or holds an earlier result alone, which a new one may replace."""
    here = names_in(path)
    try:
        text = (path / _LIST).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return not here
    return here <= {_LIST, *text.split("\n")}


def is_slice_name(path: Path) -> bool:
    """Whether a file of that name counts as a slice of the folder that it is in."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _is_slice(path: Path) -> bool:
    return is_slice_name(path) and path.is_file()


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sort key: ``slice2`` before ``slice10``, as napari has it, or labels lay on other slices."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]  # ² is a digit, too


def _refuse_jpeg(files: Iterable[Path | None]) -> None:
    for file in files:
        if file is not None and file.suffix.lower() in (".jpg", ".jpeg"):
            raise PromptError(
                f"{file} is a JPEG, which keeps no number exactly, but labels are exact: save them "
                "as PNG or TIFF from what they were made with."
            )


def _read_one(path: Path, modes: Mapping[str, str]) -> npt.NDArray[Any]:
    """Read a file; `modes` says what Pillow's modes are converted to."""
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            plane = _read_tiff(path)
        else:
            with Image.open(path) as image:
                wanted = modes.get(image.mode)
                plane = np.asarray(image.convert(wanted) if wanted else image)
    except FileError:
        raise
    except Exception as error:  # decoders raise whatever they like
        raise FileError(f"{path} cannot be read: it is damaged or no image.") from error
    return plane


def _read_tiff(path: Path) -> npt.NDArray[Any]:
    with tifffile.TiffFile(path) as tif:
        if len(parts_of(tif)) < 2:
            return _one_page(path, meant(path, tif))
    # a slice of many, each of which names them all
    with tifffile.TiffFile(path, is_ome=False) as tif:
        return _one_page(path, meant(path, tif))


def _one_page(path: Path, series: tifffile.TiffPageSeries) -> npt.NDArray[Any]:
    """Read the one slice of a TIFF, colours last."""
    check_codecs(path, series)
    letters = zip(series.axes, series.shape, strict=True)
    names = "".join(n for n, size in letters if size > 1 or n in "YX")
    colours = [n for n in names if n in "SC"]
    if len(colours) > 1 or len(names) - len(colours) != 2:
        raise FileError(
            f"{path} holds more than one image, but a folder has one slice per file: save each "
            "slice as a file of its own, or all of them as one TIFF."
        )
    plane = np.squeeze(
        series.asarray(),
        tuple(a for a, n in enumerate(series.axes) if series.shape[a] == 1 and n not in "YX"),
    )
    return np.moveaxis(plane, names.index(colours[0]), -1) if colours else plane
