"""CAMUS: apical ultrasound of the heart in two views, half a cycle labelled frame by frame."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError
from imos_core.prepare.metaimage import read_metaimage
from imos_core.prepare.recording import Case, Category, Dataset, Recording, Warn, known_labels
from imos_core.prepare.sources import files_below, read_nifti, usable_size, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

# a label is taken for the structure that it marks: 2 is the wall between endo- and epicardium
_STRUCTURES = {
    1: Category("left ventricle endocardium", False),
    2: Category("left ventricle epicardium"),
    3: Category("left atrium"),
}
_FILE = re.compile(
    r"(patient0*(\d+))_(2ch|4ch)_(half_sequence|sequence|ed|es)(_gt)?\.(nii|nii\.gz|mhd|mha)",
    re.IGNORECASE,
)
_WAYS = (("half_sequence",), ("sequence",), ("ed", "es"))
"""Files that a recording is read from, the best first; all of them need their ``_gt``."""


def find(source: Path, warn: Warn) -> list[Case]:
    """Find the views of all patients, as NIfTI or MetaImage.

    Raises
    ------
    FileError
        If there are none.
    """
    views: dict[tuple[str, str], dict[str, Path]] = {}
    for path in files_below(source):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        patient = f"patient{int(match[2]):04d}"
        parts = views.setdefault((patient, match[3].lower()), {})
        part = match[4].lower() + ("_gt" if match[5] else "")
        if part not in parts:
            parts[part] = path
        elif _kind(parts[part]) == _kind(path):
            warn(f"{path} is left out: {parts[part]} is the same.")
        elif _kind(path) == "nifti":
            parts[part] = path
    cases = []
    for (patient, view), parts in sorted(views.items()):
        name = f"{patient}_{view}"
        way = next((w for w in _WAYS if all(p in parts and f"{p}_gt" in parts for p in w)), None)
        if way is None:
            labels = [p for p in parts if p.endswith("_gt")]
            lacking = "its images are" if labels else "its labels (_gt) are"
            warn(f"{name} is left out: {lacking} missing.")
            continue
        if way == ("ed", "es"):
            warn(f"{name}: only its first and last frame are labelled, so they are all of it.")
        images = [parts[p] for p in way]
        truths = [parts[f"{p}_gt"] for p in way]
        cases.append(Case(name, patient, "us", partial(_load, name, images, truths, warn)))
    if not cases:
        raise FileError(
            f"{source} holds no CAMUS sequences with labels: it needs "
            "patient0001/patient0001_2CH_half_sequence.nii.gz and the same with _gt."
        )
    return cases


def _kind(path: Path) -> str:
    return "meta" if path.suffix.lower() in (".mhd", ".mha") else "nifti"


def _load(name: str, images: Sequence[Path], truths: Sequence[Path], warn: Warn) -> Recording:
    frames, sizes = zip(*[_read(path) for path in images], strict=True)
    painted = [whole_numbers(_read(path)[0], path) for path in truths]
    for image, labels in zip(frames, painted, strict=True):
        if image.shape != labels.shape:
            raise FileError(
                f"its images have shape {image.shape}, but its labels {labels.shape}: "
                "copy both again."
            )
    if len({image.shape[1:] for image in frames}) > 1:
        raise FileError("its first and last frame differ in size: copy them again.")
    labels = np.concatenate(painted)
    values = known_labels(labels, {0, *_STRUCTURES}, name, warn)
    objects = {
        value: (_STRUCTURES[value].name.replace(" ", "_"), _STRUCTURES[value])
        for value in sorted(values - {0})
    }
    return Recording(np.concatenate(frames), labels, objects, sizes[0], "millimeter", "t")


def _read(path: Path) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """Frames `(T, H, W)`, and the size of a pixel; time counts in frames."""
    if _kind(path) == "meta":
        data, zooms = read_metaimage(path)
        data = data.reshape([n for a, n in enumerate(data.shape) if a < 2 or n > 1])
    else:
        data, zooms, _ = read_nifti(path)
    if data.ndim == 2:
        data = data[..., None]
    if data.ndim != 3:
        raise FileError(f"{path} holds no video: its shape is {data.shape}.")
    y, x = usable_size(zooms[1]), usable_size(zooms[0])
    return data.transpose(2, 1, 0), (1.0, y, x)


DATASET = Dataset("camus", find, "research", "CC BY-NC-SA 4.0")
