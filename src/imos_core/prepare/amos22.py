"""AMOS22: abdominal CT and MRI volumes with fifteen organs, seven of which are used."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from imos_core.errors import FileError
from imos_core.prepare.recording import (
    Case,
    Category,
    Dataset,
    Recording,
    Warn,
    known_labels,
    listed,
)
from imos_core.prepare.sources import files_below, read_nifti, usable_size, whole_numbers

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_FIRST_MRI = 500
"""Volumes with smaller numbers are CT."""

# Hounsfield units (level 50 and width 400; level 50 and width 350): the usual soft-tissue windows.
# The paper gives no values.
_ABDOMEN = (-150.0, 250.0)
_MEDIASTINUM = (-125.0, 225.0)

_USED = {
    "spleen": Category("spleen", True, _ABDOMEN),
    "right kidney": Category("right kidney", True, _ABDOMEN),
    "left kidney": Category("left kidney", True, _ABDOMEN),
    "oesophagus": Category("oesophagus", False, _MEDIASTINUM),
    "liver": Category("liver", False, _ABDOMEN),
    "stomach": Category("stomach", False, _ABDOMEN),
    "aorta": Category("aorta", False, _MEDIASTINUM),
}
_NUMBERS = {
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gall bladder",
    5: "oesophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "postcava",
    10: "pancreas",
    11: "right adrenal gland",
    12: "left adrenal gland",
    13: "duodenum",
    14: "bladder",
    15: "prostate/uterus",
}
_SPELLINGS = {"arota": "aorta", "esophagus": "oesophagus", "gallbladder": "gall bladder"}
"""Names that the original and copies of it have."""

_HALF = re.compile(r"(images|labels)(tr|va|ts)", re.IGNORECASE)
_VOLUME = re.compile(r"(amos_0*(\d+).*?)(?:_0000)?\.nii(?:\.gz)?", re.IGNORECASE)


def find(source: Path, warn: Warn) -> list[Case]:
    """Find the volumes that have labels, in ``imagesTr``, ``imagesVa`` and ``imagesTs``.

    Raises
    ------
    FileError
        If there are none.
    """
    halves: dict[str, dict[str, Path]] = {}
    numbers: dict[str, int] = {}
    declared: list[Path] = []
    for path in files_below(source):
        if path.name.lower() == "dataset.json":
            declared.append(path)
        half, volume = _HALF.fullmatch(path.parent.name), _VOLUME.fullmatch(path.name)
        if half is None or volume is None:
            continue
        stem = volume[1].lower()
        numbers[stem] = int(volume[2])
        group = halves.setdefault(half[0].lower(), {})
        if stem in group:
            warn(f"{path} is left out: {group[stem].name} is the same volume.")
        else:
            group[stem] = path
    labels = {s: p for half, group in halves.items() if half[0] == "l" for s, p in group.items()}
    volumes = {s: p for half, group in halves.items() if half[0] == "i" for s, p in group.items()}
    if not set(labels) & set(volumes):
        raise FileError(
            f"{source} holds no AMOS22 volumes with labels: it needs imagesTr/amos_0001.nii.gz "
            "and labelsTr/amos_0001.nii.gz."
        )
    _say_unpaired(halves, labels, volumes, warn)
    organs = _organs(declared, warn)
    cases = []
    for stem in sorted(set(volumes) & set(labels)):
        mri = numbers[stem] >= _FIRST_MRI
        load = partial(_load, stem, volumes[stem], labels[stem], organs, mri, warn)
        # several files of a patient differ in what follows the number
        cases.append(Case(stem, f"amos_{numbers[stem]:04d}", "mri" if mri else "ct", load))
    return cases


def _say_unpaired(
    halves: dict[str, dict[str, Path]],
    labels: dict[str, Path],
    volumes: dict[str, Path],
    warn: Warn,
) -> None:
    without = sorted(set(volumes) - set(labels))
    hidden = set(halves.get("imagests", {}))  # the labels of the challenge's test are not public
    if count := len(hidden & set(without)):
        warn(f"imagesTs: {count} volumes have no public labels and are left out.")
    for stem in without:
        if stem not in hidden:
            warn(f"{volumes[stem]} is left out: it has no labels.")
    for stem in sorted(set(labels) - set(volumes)):
        warn(f"{labels[stem]} is left out: its volume is missing.")


def _organs(declared: list[Path], warn: Warn) -> dict[int, str]:
    """Names by label, from ``dataset.json`` if that can be read."""
    for path in declared:
        try:
            labels = json.loads(path.read_text(encoding="utf-8-sig"))["labels"]
            organs: dict[int, str] = {}
            for key, value in labels.items():
                # {"1": "spleen"}, or {"spleen": 1} since nnU-Net 2
                number, name = (value, key) if isinstance(value, int) else (int(key), value)
                name = " ".join(str(name).lower().replace("_", " ").split())
                organs[number] = _SPELLINGS.get(name, name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            warn(f"{path} cannot be read: the labels of the original data set are assumed.")
            continue
        if missing := sorted(set(_USED) - set(organs.values())):
            warn(
                f"{path} does not name {listed(missing)}: "
                "the labels of the original data set are assumed."
            )
            continue
        return {n: name for n, name in organs.items() if n > 0}
    if not declared:
        warn("dataset.json is missing: the labels of the original data set are assumed.")
    return _NUMBERS


def _load(
    name: str,
    image_file: Path,
    label_file: Path,
    organs: dict[int, str],
    mri: bool,
    warn: Warn,
) -> Recording:
    image, zooms, affine = read_nifti(image_file)
    raw, _, label_affine = read_nifti(label_file)
    labels = whole_numbers(raw, label_file)
    if image.ndim != 3:
        raise FileError(f"it holds no volume: its shape is {image.shape}.")
    if image.shape != labels.shape:
        raise FileError(
            f"its image has shape {image.shape}, but its labels {labels.shape}: copy both again."
        )
    if not np.allclose(affine, label_affine, atol=0.01):
        warn(f"{name}: image and labels claim two positions in space, which is ignored.")
    order = _axial(affine)
    image, labels = image.transpose(order), labels.transpose(order)
    values = known_labels(labels, {0, *organs}, name, warn)
    objects = {
        value: (organs[value].replace(" ", "_"), _category(organs[value], mri))
        for value in sorted(values - {0})
        if organs[value] in _USED
    }
    sizes = [usable_size(zooms[a]) if a < len(zooms) else 1.0 for a in order]
    return Recording(image, labels, objects, (sizes[0], sizes[1], sizes[2]), "millimeter")


def _category(organ: str, mri: bool) -> Category:
    """Category; MRI has no units, so its window is that of the volume."""
    category = _USED[organ]
    return Category(category.name, category.seen) if mri else category


def _axial(affine: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    """Axes of the file in the order head-foot, front-back, left-right; nothing is mirrored."""
    directions = np.abs(affine[:3, :3]).T  # one row for each axis of the file
    norms = np.linalg.norm(directions, axis=1)
    if not np.isfinite(directions).all() or not norms.all():
        return (2, 1, 0)
    directions = directions / norms[:, None]
    axes: list[int] = []
    for world in (2, 1, 0):
        axes.append(max(set(range(3)) - set(axes), key=lambda a: float(directions[a, world])))
    return (axes[0], axes[1], axes[2])


DATASET = Dataset("amos22", find, "open", "CC BY 4.0")
