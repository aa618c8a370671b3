"""Protocols: which slice of a sequence is the prompt, and which slices are asked for."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import ndimage

from imos_core.boxes import objects_of
from imos_core.errors import FileError, ImosError
from imos_core.evaluation.rough import roughen
from imos_core.formats.left_behind import visible
from imos_core.sequence_files import open_sequence, sequence_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

Protocol = Literal["first", "last", "middle"]
PROTOCOLS: tuple[Protocol, ...] = ("first", "middle")
"""Protocols that are run unless others are asked for."""
_STRAYS = 0.08
"""How far prompts by hand stray: their Jaccard index with the truth is near 0.9."""


@dataclass(frozen=True)
class TrueSequence:
    """A volume or video with the truth of every slice."""

    name: str
    """Name, unique in its folder."""
    modality: str
    """Group that it is reported in."""
    image: npt.NDArray[np.generic]
    """`(T, H, W)` or `(T, H, W, 3)`."""
    labels: npt.NDArray[np.integer]
    """`(T, H, W)`, 0 is background."""
    spacing: tuple[float, float, float]
    """Size of a voxel, slice axis first."""
    category: str = ""
    """What the object is, where a file holds one object and says so."""
    seen: bool | None = None
    """Whether the category is trained on, where the file says so."""
    axis: Literal["z", "t"] = "z"
    """What the slices are: ``z``, of a volume, or ``t``, frames."""


@dataclass(frozen=True)
class Task:
    """One object of one sequence under one protocol."""

    sequence: TrueSequence
    """Where it is."""
    label: int
    """Which object."""
    prompt: int
    """Slice whose truth is given."""
    start: int
    """First slice that is asked for."""
    stop: int
    """One past the last."""
    direction: Literal["both", "forward", "backward"]
    """Where to go from the prompt."""
    by_hand: bool = False
    """Whether prompts are as people paint, beside the truth here and there; see `roughen`."""

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """What is painted on the prompt slice, `(H, W)`."""
        return self.painted(self.prompt)

    def painted(self, index: int) -> npt.NDArray[np.bool_]:
        """Return what somebody paints on a slice, `(H, W)`."""
        mask: npt.NDArray[np.bool_] = self.sequence.labels[index] == self.label
        if not self.by_hand or not mask.any():
            return mask
        ((rows, columns),) = ndimage.find_objects(mask.astype(np.uint8))
        margin = max(rows.stop - rows.start, columns.stop - columns.start) // 2 + 2
        near = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in (rows, columns))
        rng = np.random.default_rng([self.label, index])
        mask[near] = roughen(mask[near], rng, strays=_STRAYS)
        return mask


def read_sequences(folder: Path, modalities: Sequence[str] = ()) -> Iterator[TrueSequence]:
    """Read ``<modality>/<name>.npz`` (arrays `image`, `labels`, optional `spacing` and `meta`).

    `meta` is JSON text; of what it says, `category`, `seen` and `axis` are passed on. Where it
    says nothing of the axis, colour images and pairs are taken as frames, all else as volumes.

    Parameters
    ----------
    folder : Path
        Folder of folders, or of files (modality ``all``).
    modalities : sequence of str
        Only these; empty: all.

    Raises
    ------
    FileError
        If there are none, or none of a modality, or one cannot be read.
    """
    there = modalities_in(folder)
    if missing := [m for m in modalities if m not in there]:
        raise FileError(
            f"No sequences of {', '.join(missing)} were found in {folder}, which has "
            f"{', '.join(there) or 'none'}: correct the modalities."
        )
    if not there:
        raise FileError(
            f"No sequences were found in {folder}: it needs <modality>/<name>.npz files with "
            "arrays image and labels."
        )
    for path in _paths(folder):
        if modalities and _modality(path, folder) not in modalities:
            continue
        with open_sequence(path) as file:
            image, labels, spacing = sequence_arrays(file)
            meta = _meta(file)
        yield TrueSequence(
            path.stem,
            _modality(path, folder),
            image,
            labels,
            spacing,
            str(meta.get("category", "")),
            meta["seen"] if isinstance(meta.get("seen"), bool) else None,
            _axis(meta, image),
        )


@contextmanager
def said_of(sequence: TrueSequence) -> Iterator[None]:
    """Have an error say which sequence it is about.

    Raises
    ------
    ImosError
        If one was raised.
    """
    try:
        yield
    except ImosError as error:
        raise type(error)(f"{sequence.modality}/{sequence.name}: {error}") from error


def modalities_in(folder: Path) -> list[str]:
    """Modalities of the sequences of a folder, by its names alone."""
    return sorted({modality for modality, _ in names_in(folder)})


def names_in(folder: Path, modalities: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Modality and name of every sequence of a folder, or of some modalities of it."""
    found = [(_modality(path, folder), path.stem) for path in _paths(folder)]
    return [(m, name) for m, name in found if not modalities or m in modalities]


def _paths(folder: Path) -> list[Path]:
    return visible(folder, "*/*.npz") or visible(folder, "*.npz")


def mirror_images(sequence: TrueSequence) -> Iterator[TrueSequence]:
    """Yield a sequence as it is, upside down, left-right reversed, and both.

    What a network makes of a mirror image is as good or bad as what it makes of the original, but
    not the same: where few objects are at hand, this tells chance from quality.
    """
    for rows, columns in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        seen = (slice(None), slice(None, None, rows), slice(None, None, columns))
        yield replace(
            sequence,
            image=np.ascontiguousarray(sequence.image[seen]),
            labels=np.ascontiguousarray(sequence.labels[seen]),
        )


def _meta(file: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """What a sequence says of itself; nothing if it does not say it as we do."""
    try:
        meta = json.loads(str(file["meta"]))
    except (KeyError, ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _axis(meta: dict[str, Any], image: npt.NDArray[Any]) -> Literal["z", "t"]:
    said = meta.get("axis")
    if said != "z" and (said == "t" or image.ndim == 4 or len(image) < 3):
        return "t"
    return "z"


def _modality(path: Path, folder: Path) -> str:
    return path.parent.name if path.parent != folder else "all"


def tasks_of(
    sequence: TrueSequence, protocol: Protocol, max_objects: int | None = None
) -> list[Task]:
    """Tasks of a sequence: one for each object that is in more than one slice.

    Parameters
    ----------
    sequence : TrueSequence
        Sequence.
    protocol : {"first", "last", "middle"}
        ``first``: the prompt is the first slice with the object, and it is followed to the last
        one (the paper's generated sequences). ``last``: the same backward. ``middle``: the
        prompt is the slice with the object's largest area, and it is followed both ways through
        the whole sequence.
    max_objects : int, optional
        At most this many objects, evenly spaced over the ids.
    """
    tasks = []
    areas: dict[int, npt.NDArray[np.int64]] = {}
    for k, plane in enumerate(sequence.labels):
        for label, area, _ in objects_of(plane):
            areas.setdefault(label, np.zeros(len(sequence.labels), np.int64))[k] = area
    ids = [i for i in sorted(areas) if np.count_nonzero(areas[i]) > 1]
    if max_objects is not None and len(ids) > max_objects:
        ids = [ids[k] for k in np.linspace(0, len(ids) - 1, max_objects).round().astype(int)]
    for label in ids:
        present = np.nonzero(areas[label])[0]
        if protocol == "first":
            first, last = int(present[0]), int(present[-1])
            tasks.append(Task(sequence, label, first, first, last + 1, "forward"))
        elif protocol == "last":
            first, last = int(present[0]), int(present[-1])
            tasks.append(Task(sequence, label, last, first, last + 1, "backward"))
        else:
            middle = int(areas[label].argmax())
            tasks.append(Task(sequence, label, middle, 0, len(sequence.labels), "both"))
    return tasks
