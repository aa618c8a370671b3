"""Protocol `annotate`: how many slices a person must paint until every slice is right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from imos_core.evaluation.interpolation import interpolate_shapes
from imos_core.evaluation.protocols import read_sequences, tasks_of
from imos_core.metrics import jaccard
from imos_core.propagation import propagate
from imos_core.review import anchor_distance, expected_jaccard, next_to_check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.evaluation.protocols import Task
    from imos_core.model import IMOS

    Masks: TypeAlias = npt.NDArray[np.bool_]
    Costs: TypeAlias = dict[float, tuple[int, int]]
    """Goal -> slices painted, and slices kept, until then."""

Strategy = Literal[
    "next to check",
    "next to check, right ones kept",
    "worst",
    "even",
    "interpolation",
    "interpolation, worst",
]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
"""What `imos` proposes, painted always or only where it is wrong; the truly worst; evenly spaced
ones; the last two without a model."""
GOALS = (0.9, 0.95)
"""Jaccard indices that every slice has to reach."""
FEWEST = 8
"""Slices that an object must be in."""


@dataclass(frozen=True)
class Effort:
    """What one object cost."""

    strategy: Strategy
    modality: str
    sequence: str
    label: int
    goal: float
    """Jaccard index that every slice has to reach."""
    painted: int
    """Slices that were painted until then."""
    slices: int
    """Slices of the object's range."""
    kept: int = 0
    """Slices that were looked at, found right and kept as they were."""

    @property
    def share(self) -> float:
        """Painted slices as a share of all."""
        return self.painted / self.slices

    @property
    def looked(self) -> float:
        """Painted and kept slices as a share of all."""
        return (self.painted + self.kept) / self.slices


class Annotator:
    """Somebody who paints slices of one object exactly, and propagates after each.

    Parameters
    ----------
    task : Task
        Object, and its range.
    model : IMOS
        Network.
    """

    def __init__(self, task: Task, model: IMOS) -> None:
        sequence = task.sequence
        self._image = sequence.image[task.start : task.stop]
        self.truth = sequence.labels[task.start : task.stop] == task.label
        self._spacing, self._model = sequence.spacing, model
        self.painted: list[int] = []
        self.kept: list[int] = []
        self.masks: Masks = np.zeros_like(self.truth)
        self.confidence: dict[int, float] = {}

    def paint(self, *slices: int) -> None:
        """Paint slices, and propagate into the stretches that they can improve."""
        self.painted = sorted({*self.painted, *slices})
        self.masks[list(slices)] = self.truth[list(slices)]
        anchors, last = self.anchors, len(self.truth) - 1
        low = max((k for k in anchors if k < min(slices)), default=0)
        high = min((k for k in anchors if k > max(slices)), default=last)
        given = {k: self.masks[k].astype(np.uint8) for k in anchors}
        for piece in propagate(
            self._image,
            given,
            start=low,
            stop=high + 1,
            ends={},  # so the table in docs/results.md was measured
            model=self._model,
            spacing=self._spacing,
            channels_last=self._image.ndim == 4,
        ):
            away = anchor_distance(piece.index, anchors)
            expected = expected_jaccard(piece.confidence, piece.labels, away)
            self.confidence[piece.index] = expected
            # a painted slice that does not show the object is right too, though it prompts nothing
            if piece.index not in given:
                self.masks[piece.index] = piece.labels > 0

    def keep(self, k: int) -> None:
        """Say of a slice that it is right."""
        self.kept.append(k)

    @property
    def anchors(self) -> list[int]:
        """Slices that prompt: painted, or found right."""
        return sorted({*self.painted, *self.kept})

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Jaccard index of every slice."""
        return _scores(self.masks, self.truth)

    def proposed(self) -> int:
        """Return the slice that `imos` proposes to correct."""
        best = next_to_check(self.confidence, self.anchors, sure=1.1)
        assert best is not None  # nothing is too sure
        return best

    def worst(self) -> int:
        """Return the slice that is truly worst, which nobody knows."""
        scores = self.scores
        scores[self.painted] = np.inf
        return int(scores.argmin())


def annotate(
    task: Task,
    model: IMOS,
    goals: Sequence[float] = GOALS,
    strategies: Sequence[Strategy] = STRATEGIES,
) -> Iterator[Effort]:
    """Simulate annotators who stop when every slice of an object's range reaches a goal.

    All start with the slice of the largest area. The one that paints evenly spaced slices is
    given the smallest number that suffices, and so is the one that interpolates shapes, whose
    slices include both ends of the range.

    Parameters
    ----------
    task : Task
        Object and range, as of protocol ``first``.
    model : IMOS
        Network.
    goals : sequence of float
        Jaccard indices, ascending.
    strategies : sequence of str
        How slices are chosen.
    """
    sequence = task.sequence
    truth = sequence.labels[task.start : task.stop] == task.label
    runs: dict[Strategy, Callable[[], Costs]] = {
        "next to check": lambda: _one_by_one(task, model, goals, Annotator.proposed),
        "next to check, right ones kept": lambda: {
            # what is right for one goal is not for a higher one
            goal: _one_by_one(task, model, [goal], Annotator.proposed, keep=True)[goal]
            for goal in goals
        },
        "worst": lambda: _one_by_one(task, model, goals, Annotator.worst),
        "even": lambda: _smallest(len(truth), goals, lambda n: _even(task, model, n)),
        "interpolation": lambda: _smallest(
            len(truth), goals, lambda n: _interpolated(truth, _spread(len(truth), n, ends=True))
        ),
        "interpolation, worst": lambda: _interpolated_worst(truth, goals),
    }
    for strategy in strategies:
        for goal, (painted, kept) in runs[strategy]().items():
            name, modality = sequence.name, sequence.modality
            yield Effort(strategy, modality, name, task.label, goal, painted, len(truth), kept)


def _one_by_one(
    task: Task,
    model: IMOS,
    goals: Sequence[float],
    choose: Callable[[Annotator], int],
    *,
    keep: bool = False,
) -> Costs:
    """Let somebody paint one slice after the other, or `keep` those that are right."""
    person = Annotator(task, model)
    areas = [int(np.count_nonzero(plane)) for plane in person.truth]
    person.paint(int(np.argmax(areas)))
    found: Costs = {}
    for goal in goals:
        while (person.scores < goal).any():
            k = choose(person)
            if keep and person.scores[k] >= goal:
                person.keep(k)
            else:
                person.paint(k)
        found[goal] = len(person.painted), len(person.kept)
    return found


def _smallest(length: int, goals: Sequence[float], worst: Callable[[int], float]) -> Costs:
    """Find the smallest number of slices whose worst slice reaches each goal.

    Numbers above eight go up by a fifth at a time.
    """
    found: Costs = {}
    count, score = 1, worst(1)
    for goal in goals:
        while score < goal and count < length:
            count = min(max(count + 1, int(count * 1.2)), length)
            score = worst(count) if count < length else 1.0
        found[goal] = count, 0
    return found


def _even(task: Task, model: IMOS, count: int) -> float:
    person = Annotator(task, model)
    places = _spread(task.stop - task.start, count)
    if not any(person.truth[k].any() for k in places):
        return 0.0
    person.paint(*places)
    return float(person.scores.min())


def _interpolated(truth: Masks, places: Sequence[int]) -> float:
    return float(
        _scores(interpolate_shapes({k: truth[k] for k in places}, len(truth)), truth).min()
    )


def _interpolated_worst(truth: Masks, goals: Sequence[float]) -> Costs:
    areas = [int(np.count_nonzero(plane)) for plane in truth]
    painted = sorted({0, int(np.argmax(areas)), len(truth) - 1})
    found: Costs = {}
    for goal in goals:
        while True:
            scores = _scores(interpolate_shapes({k: truth[k] for k in painted}, len(truth)), truth)
            if scores.min() >= goal:
                break
            painted = sorted({*painted, int(scores.argmin())})
        found[goal] = len(painted), 0
    return found


def _spread(length: int, count: int, *, ends: bool = False) -> list[int]:
    """Return evenly spaced slices, in the middle of equal parts, or with both ends."""
    if ends and count > 1:
        places = np.linspace(0, length - 1, count).round()
    else:
        places = np.floor((np.arange(count) + 0.5) / count * length)
    return sorted({int(k) for k in places})


def _scores(masks: Masks, truth: Masks) -> npt.NDArray[np.float64]:
    return np.array([float(jaccard(a, b)) for a, b in zip(masks, truth, strict=True)])


def tasks_to_annotate(
    folder: Path, max_objects: int | None = None, modalities: Sequence[str] = ()
) -> Iterator[Task]:
    """Objects of a folder of sequences that are in enough slices for the effort to mean something.

    Raises
    ------
    FileError
        If there are no sequences.
    """
    for sequence in read_sequences(folder, modalities):
        for task in tasks_of(sequence, "first", max_objects):
            if task.stop - task.start >= FEWEST:
                yield task


def as_json(efforts: Sequence[Effort]) -> str:
    """All efforts as JSON."""
    return json.dumps(
        [{**vars(e), "share": e.share, "looked": e.looked} for e in efforts], indent=1
    )


def effort_table(efforts: Sequence[Effort]) -> str:
    """Markdown: mean share of painted slices in percent, by modality, strategy and goal."""
    strategies = list(dict.fromkeys(e.strategy for e in efforts))
    blocks = []
    for goal in sorted({e.goal for e in efforts}):
        chosen = [e for e in efforts if e.goal == goal]
        groups = {m: [e for e in chosen if e.modality == m] for m in _modalities(chosen)}
        lines = [
            f"Painted slices until every slice has J >= {goal:g}, % of the object's slices "
            "(in brackets: painted or kept)",
            "",
            "| modality | objects | slices | " + " | ".join(strategies) + " |",
            "|---|---:|---:|" + "---:|" * len(strategies),
        ]
        for name, group in [*groups.items(), ("**all objects**", chosen)]:
            one = [e for e in group if e.strategy == strategies[0]]
            shares = [_percent([e for e in group if e.strategy == s]) for s in strategies]
            slices = np.mean([e.slices for e in one])
            lines.append(f"| {name} | {len(one)} | {slices:.0f} | {' | '.join(shares)} |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _percent(efforts: Sequence[Effort]) -> str:
    painted, looked = (100 * np.mean([getattr(e, n) for e in efforts]) for n in ("share", "looked"))
    return f"{painted:.0f} ({looked:.0f})" if any(e.kept for e in efforts) else f"{painted:.0f}"


def _modalities(efforts: Sequence[Effort]) -> list[str]:
    return sorted({e.modality for e in efforts})
