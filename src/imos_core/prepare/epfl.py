"""EPFL hippocampus: two volumes of electron microscopy with mitochondria, taken one by one."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage import measure
from tifffile import TiffFile

from imos_core.errors import FileError
from imos_core.prepare.recording import Case, Category, Dataset, Recording, Warn, listed
from imos_core.prepare.sources import files_below

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_MITOCHONDRIA = Category("mitochondria")
_NANOMETRES = 5.0
_FILE = re.compile(r"(training|testing)(_ground_?truth)?\.tiff?", re.IGNORECASE)
_SPLITS = {"training": "train", "testing": "test"}
"""Two volumes cannot be dealt out 3:1:1, and the data set says what each is for."""


def find(source: Path, warn: Warn) -> list[Case]:
    """Find ``training.tif`` and ``testing.tif`` with their ``_groundtruth.tif``.

    Raises
    ------
    FileError
        If neither is there.
    """
    files: dict[tuple[str, bool], Path] = {}
    for path in files_below(source):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        key = (match[1].lower(), bool(match[2]))
        if key in files:
            warn(f"{path} is left out: {files[key]} is the same.")
        else:
            files[key] = path
    cases = []
    for name, split in _SPLITS.items():
        image, truth = files.get((name, False)), files.get((name, True))
        if image is not None and truth is not None:
            cases.append(Case(name, name, "em", partial(_load, name, image, truth, warn), split))
        elif files:
            lacking = f"{name}.tif" if image is None else f"{name}_groundtruth.tif"
            warn(f"{name} is left out: {lacking} is missing.")
    if not cases:
        raise FileError(
            f"{source} holds no EPFL volumes with labels: it needs training.tif and "
            "training_groundtruth.tif, or the same with testing."
        )
    return cases


def _load(name: str, image_file: Path, truth_file: Path, warn: Warn) -> Recording:
    image, truth = _read(image_file), _read(truth_file)
    if image.shape != truth.shape:
        raise FileError(
            f"its image has shape {image.shape}, but its labels {truth.shape}: copy both again."
        )
    values = [int(v) for v in np.unique(truth)]
    # 255 in the original; copies have 1
    inside = 255 if 255 in values else 1
    if unknown := [v for v in values if v not in (0, inside)]:
        plural = "s" if len(unknown) > 1 else ""
        warn(f"{name}: unknown label value{plural} {listed(unknown)}, taken as background.")
    components: Any = measure.label  # untyped
    labels = np.asarray(components(truth == inside, connectivity=3), np.int32)
    objects = {n: (f"{n:03d}", _MITOCHONDRIA) for n in range(1, int(labels.max()) + 1)}
    return Recording(image, labels, objects, (_NANOMETRES,) * 3, "nanometer")


def _read(path: Path) -> npt.NDArray[Any]:
    """Volume `(Z, Y, X)`; copies have pages as one series or as many, or equal colours."""
    try:
        with TiffFile(path) as file:
            series = [s.asarray() for s in file.series]
            volume = series[0] if len(series) == 1 else np.stack(series)
    except Exception as error:  # tifffile raises whatever it likes
        raise FileError(f"{path} cannot be read: it is damaged, cut short or no TIFF.") from error
    if volume.ndim == 4 and volume.shape[-1] in (3, 4):
        volume = volume[..., 0]
    if volume.ndim == 2:
        volume = volume[None]
    if volume.ndim != 3 or volume.dtype.kind not in "bui":
        raise FileError(f"{path} holds no volume of whole numbers: its shape is {volume.shape}.")
    return volume.astype(np.uint8) if volume.dtype == bool else volume


DATASET = Dataset("epfl", find, "research", "not stated")
