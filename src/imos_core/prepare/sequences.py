"""Sequences: every object of a recording, cut from its first to its last frame and written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from imos_core.prepare.frames import as_frame, as_mask, intensity_range
from imos_core.prepare.splits import folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.prepare.recording import Case, Category, Dataset, Recording

Entry = dict[str, Any]
"""What the manifest says of a sequence."""


@dataclass(frozen=True)
class Sequence:
    """One object from its first to its last frame."""

    image: npt.NDArray[np.uint8]
    """`(T, H, W)` or `(T, H, W, 3)`."""
    labels: npt.NDArray[np.uint8]
    """`(T, H, W)`, 1 where the object is."""
    first: int
    """Number of its first frame in the recording, from 0."""
    label: int
    """Label in the data set."""
    suffix: str
    """What tells it from the others of its recording."""
    category: Category
    """What it is."""
    window: tuple[float, float]
    """Intensities that became 0 and 255."""
    spacing: tuple[float, float, float]
    """Size of a voxel after the change of size."""


def sequences_of(recording: Recording, size: int) -> Iterator[Sequence]:
    """Cut the objects out, those that are in one frame only left out.

    Parameters
    ----------
    recording : Recording
        Volume or video.
    size : int
        Height and width of the frames; 0: as they are.
    """
    image, labels = recording.image, recording.labels
    height, width = labels.shape[1:]
    factors = (height / size, width / size) if size else (1.0, 1.0)
    spacing = (
        recording.spacing[0],
        recording.spacing[1] * factors[0],
        recording.spacing[2] * factors[1],
    )
    windows = [category.window for _, category in recording.objects.values()]
    whole = intensity_range(image) if None in windows else (0.0, 255.0)
    frames: dict[tuple[tuple[float, float], int], npt.NDArray[np.uint8]] = {}
    highest = max(recording.objects, default=0)
    # labels that mean nothing may be huge, and would cost a box each
    boxes = ndimage.find_objects(np.where(labels <= highest, labels, 0).clip(0), highest)
    for label, (suffix, category) in recording.objects.items():
        box = boxes[label - 1]
        if box is None:
            continue
        present = range(box[0].start, box[0].stop)
        masks = np.stack([as_mask(labels[k] == label, size) for k in present])
        # what is smaller than a pixel of the new size is gone
        shown = np.flatnonzero(masks.any((1, 2)))
        if len(shown) < 2:
            continue
        first, last = int(shown[0]), int(shown[-1])
        present = present[first : last + 1]
        window = category.window or whole
        for k in present:
            if (window, k) not in frames:
                frames[window, k] = as_frame(image[k], window, size)
        yield Sequence(
            np.stack([frames[window, k] for k in present]),
            masks[first : last + 1],
            present.start,
            label,
            suffix,
            category,
            window,
            spacing,
        )


def write_sequence(
    folder: Path,
    dataset: Dataset,
    case: Case,
    split: str,
    sequence: Sequence,
    recording: Recording,
) -> Entry:
    """Write ``<folder>/<split>/<modality>/<name>.npz``; return what the manifest says of it.

    Parameters
    ----------
    folder : Path
        Folder of the splits.
    dataset : Dataset
        Where it comes from.
    case : Case
        Recording that it was cut from.
    split : str
        Split of the patient.
    sequence : Sequence
        What to write: `image`, `labels`, `spacing`, and `meta`, which is the entry as JSON.
    recording : Recording
        What it was cut from.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    stem = f"{case.name}_{sequence.suffix}"
    place = folder_of(split, seen=sequence.category.seen)
    name = f"{case.modality}/{stem}"
    absent = int(len(sequence.labels) - np.count_nonzero(sequence.labels.any((1, 2))))
    entry: Entry = {
        "name": name,
        "file": f"{place}/{name}.npz",
        "split": place,
        "source": dataset.name,
        "use": dataset.use,
        "licence": dataset.licence,
        "modality": case.modality,
        "category": sequence.category.name,
        "seen": sequence.category.seen,
        "patient": case.patient,
        "recording": case.name,
        "label": sequence.label,
        "first": sequence.first,
        "last": sequence.first + len(sequence.labels) - 1,
        "absent": absent,
        "shape": list(sequence.image.shape),
        "spacing": [round(s, 6) for s in sequence.spacing],
        "unit": recording.unit,
        "axis": recording.axis,
        "window": list(sequence.window),
    }
    path = folder / entry["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        image=sequence.image,
        labels=sequence.labels,
        spacing=np.array(entry["spacing"], np.float64),
        meta=np.array(json.dumps(entry)),
    )
    return entry
