"""Scores of a predicted label volume against a true one, object by object."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from imos_core.boxes import around, objects_of, widened
from imos_core.errors import PromptError
from imos_core.evaluation.surfaces import bounding_box, surface_distances
from imos_core.label_ids import ids_on
from imos_core.metrics import boundary_f, counted, jaccard, reach_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from imos_core.boxes import Box


@dataclass(frozen=True)
class ObjectScore:
    """Scores of one object."""

    label: int
    """Its id in the truth."""
    j: float
    """Mean region score of the slices."""
    f: float
    """Mean boundary score of the slices."""
    dice: float
    """Overlap of the whole volumes."""
    surface_distance: float | None
    """Mean distance of the two surfaces in units of the spacing; None without one."""

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.j + self.f) / 2


def compare(
    prediction: npt.NDArray[np.integer],
    truth: npt.NDArray[np.integer],
    *,
    skip: SupportsIndex | Iterable[SupportsIndex] = (),
    spacing: tuple[float, float, float] | None = None,
) -> list[ObjectScore]:
    """Score every object of the truth that is on slices that count.

    Parameters
    ----------
    prediction, truth : ndarray of int
        `(T, H, W)`, 0 is background, and so is what is below.
    skip : int or iterable of int
        Slices that were given and do not count; negative ones count from the end. Surfaces keep
        them, or both sides of them would be sewn together.
    spacing : (float, float, float), optional
        Size of a voxel; adds surface distances.

    Returns
    -------
    list of ObjectScore
        By id.

    Raises
    ------
    PromptError
        If the shapes differ, a slice is not there, or there is nothing to score.
    """
    if prediction.shape != truth.shape:
        raise PromptError(
            f"The prediction has shape {prediction.shape}, but the truth {truth.shape}: "
            "give two volumes of the same image."
        )
    kept = counted(len(truth), skip)
    ids = [label for label in ids_on(truth[kept]) if label > 0]
    if not ids:
        raise PromptError("The truth is empty where it counts: there is nothing to score.")
    there = _boxes((prediction, truth), ids)
    return [_score(label, prediction, truth, there[label], kept, spacing) for label in ids]


def as_table(scores: Sequence[ObjectScore]) -> str:
    """Scores as a plain table, the means last."""
    far = any(s.surface_distance is not None for s in scores)
    lines = [f"{'object':>8}  {'J':>6}  {'F':>6}  {'J&F':>6}  {'Dice':>6}"]
    lines[0] += f"  {'distance':>9}" if far else ""
    for name, s in [*((str(s.label), s) for s in scores), ("mean", mean_of(scores))]:
        line = f"{name:>8}  {s.j:6.3f}  {s.f:6.3f}  {s.mean:6.3f}  {s.dice:6.3f}"
        distance = "-" if s.surface_distance is None else f"{s.surface_distance:.3f}"
        lines.append(line + (f"  {distance:>9}" if far else ""))
    return "\n".join(lines)


def as_json(scores: Sequence[ObjectScore]) -> str:
    """Scores as JSON: a list of objects, and their means."""
    rows: list[dict[str, Any]] = [{**asdict(s), "j_and_f": s.mean} for s in scores]
    mean = mean_of(scores)
    total = {**asdict(mean), "j_and_f": mean.mean}
    del total["label"]
    return json.dumps({"objects": rows, "mean": total}, indent=1)


def mean_of(scores: Sequence[ObjectScore]) -> ObjectScore:
    """Means over the objects, each counting alike."""
    distances = [s.surface_distance for s in scores if s.surface_distance is not None]
    return ObjectScore(
        0,
        float(np.mean([s.j for s in scores])),
        float(np.mean([s.f for s in scores])),
        float(np.mean([s.dice for s in scores])),
        float(np.mean(distances)) if len(distances) == len(scores) else None,
    )


def _boxes(
    volumes: Iterable[npt.NDArray[np.integer]], ids: Iterable[int]
) -> dict[int, tuple[slice, Box]]:
    """Slices and part of a slice in which each label lies in any of the volumes, edges included."""
    found: dict[int, list[tuple[int, Box]]] = {label: [] for label in ids}
    for volume in volumes:
        for k, plane in enumerate(volume):
            for label, _, box in objects_of(plane, found):
                found[label].append((k, box))
    return {
        label: (
            slice(min(k for k, _ in places), max(k for k, _ in places) + 1),
            widened(around([box for _, box in places]), 1),
        )
        for label, places in found.items()
    }


def _score(
    label: int,
    prediction: npt.NDArray[np.integer],
    truth: npt.NDArray[np.integer],
    there: tuple[slice, Box],
    kept: Sequence[int],
    spacing: tuple[float, float, float] | None,
) -> ObjectScore:
    """Score one object by what is `there`: slices that show it nowhere are right."""
    slices, box = there
    a, b = (volume[slices][:, *box] == label for volume in (prediction, truth))
    distance = None
    if spacing is not None and a.any():
        distance = _surface_distance(a, b, spacing)
    among = [n for n, k in enumerate(kept) if slices.start <= k < slices.stop]
    shown = [kept[n] - slices.start for n in among]
    a, b = a[shown], b[shown]
    j, f = np.ones(len(kept)), np.ones(len(kept))
    j[among], f[among] = jaccard(a, b), boundary_f(a, b, reach_of(truth.shape))
    dice = 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
    return ObjectScore(label, float(j.mean()), float(f.mean()), dice, distance)


def _surface_distance(
    a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], spacing: tuple[float, float, float]
) -> float:
    """Mean over both surfaces of the distance to the other one."""
    box = bounding_box(a | b)
    return float(np.concatenate(surface_distances(a[box], b[box], spacing)).mean())
