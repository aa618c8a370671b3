"""Walks that show the presence head what it will meet: through sequences, with what was right.

One network carries objects whose truth is known through volumes, videos and synthetic volumes;
evidence of every slice is noted, and how good the mask was.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from itertools import count
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from imos_core import synthetic
from imos_core.data.sources import is_isotropic, told_spacing
from imos_core.evaluation.protocols import TrueSequence, tasks_of
from imos_core.model.presence import EVIDENCE
from imos_core.propagation import propagate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imos_core.evaluation.protocols import Task
    from imos_core.model import IMOS

_SLICES = 16, 56
"""Slices of a synthetic volume, from and below."""
_SIDE = 192
"""Rows and columns of one, in pixels."""


@dataclass(frozen=True)
class Judged:
    """Evidence of slices and what would have been right."""

    evidence: Tensor
    """`(N, len(EVIDENCE))`."""
    jaccard: Tensor
    """`(N,)` Jaccard index of the network's mask; -1 where the object is absent."""
    group: Tensor
    """`(N,)` number of the sequence."""
    first: Tensor
    """`(N,)` bool: the prompt was the object's first slice, which it is followed from."""
    journey: Tensor
    """`(N,)` number of the walk from one prompt in one direction; its slices are in order."""

    @classmethod
    def joined(cls, parts: Sequence[Judged]) -> Judged:
        """What several know, sequences and walks numbered through."""
        columns: list[list[Tensor]] = [[] for _ in fields(cls)]
        groups = walks = 0
        some = [part for part in parts if len(part.journey)]
        if not some:
            return parts[0]
        for part in some:
            told = replace(part, group=part.group + groups, journey=part.journey + walks)
            groups, walks = int(told.group.max()) + 1, int(told.journey.max()) + 1
            for column, field in zip(columns, fields(cls), strict=True):
                column.append(getattr(told, field.name))
        return cls(*(torch.cat(column) for column in columns))

    def select(self, chosen: Tensor) -> Judged:
        """Return some slices."""
        return Judged(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def by_journey(self, values: Tensor) -> Tensor:
        """Arrange values of slices `(N, ...)` by journey, `(B, T, ...)`; 0 beyond the ends."""
        return nn.utils.rnn.pad_sequence(list(values.split(self.lengths)), batch_first=True)

    @property
    def lengths(self) -> list[int]:
        """Slices of each journey."""
        lengths: list[int] = torch.unique_consecutive(self.journey, return_counts=True)[1].tolist()
        return lengths


class _Recorder(nn.Module):
    """Stands in for the head: takes notes and finds everything present."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[Tensor] = []

    def start(self, count: int) -> Tensor:
        return torch.zeros(count, 1)

    def forward(self, evidence: Tensor, course: Tensor) -> tuple[Tensor, Tensor]:
        self.notes.append(evidence.detach().cpu().float())
        return torch.full((len(evidence),), 9.0, device=evidence.device), course

    def __deepcopy__(self, memo: object) -> _Recorder:
        """Stay the one that takes the notes: propagation runs on a copy of the network."""
        return self


def collect(model: IMOS, sequence: TrueSequence, max_objects: int = 6) -> Judged:
    """Propagate objects of a sequence both ways from first and largest slice, and judge the masks.

    Walks in which an object is followed in parts are left out.

    Parameters
    ----------
    model : IMOS
        Network; its own head, if any, is not used.
    sequence : TrueSequence
        A training sequence.
    max_objects : int
        Most objects that are followed.
    """
    noting = copy.deepcopy(model)  # a network that ran before is remembered with its head
    recorder = noting.presence = _Recorder()  # type: ignore[assignment]
    evidence: list[Tensor] = [torch.zeros(0, len(EVIDENCE))]
    jaccard: list[float] = []
    first: list[bool] = []
    journey: list[int] = []
    walks = count()
    for task, side in _journeys(sequence, max_objects):
        recorder.notes.clear()
        scores = _scores(noting, task, side)
        if sum(map(len, recorder.notes)) != len(scores):
            continue  # of parts, each judged alone, there is no truth
        evidence += recorder.notes
        jaccard += scores
        first += [task.direction == "forward"] * len(scores)
        journey += [next(walks)] * len(scores)
    return Judged(
        torch.cat(evidence),
        torch.tensor(jaccard),
        torch.zeros(len(jaccard), dtype=torch.long),
        torch.tensor(first, dtype=torch.bool),
        torch.tensor(journey, dtype=torch.long),
    )


def _journeys(
    sequence: TrueSequence, max_objects: int
) -> Iterator[tuple[Task, Literal["forward", "backward"]]]:
    for task in tasks_of(sequence, "first", max_objects):
        yield task, "forward"
    for task in tasks_of(sequence, "middle", max_objects):
        yield task, "forward"
        yield task, "backward"


def _scores(model: IMOS, task: Task, side: Literal["forward", "backward"]) -> list[float]:
    """Jaccard index of every slice after the prompt, in order; -1 where the object is absent."""
    sequence, scores = task.sequence, []
    slices = propagate(
        sequence.image,
        {task.prompt: task.mask.astype(np.uint8)},
        start=task.start,
        stop=task.stop,
        direction=side,
        model=model,
        spacing=sequence.spacing,
        channels_last=sequence.image.ndim == 4,
        patience=None,  # notes are taken of every slice
    )
    for piece in slices:
        if piece.source == "anchor":
            continue
        truth = sequence.labels[piece.index] == task.label
        mask = piece.labels > 0
        either = np.count_nonzero(truth | mask)
        score = np.count_nonzero(truth & mask) / either if either else 1.0
        scores.append(float(score) if truth.any() else -1.0)
    return scores


def cuts(sequence: TrueSequence) -> Iterator[TrueSequence]:
    """Yield a sequence, and the same volume along its other axes if its voxels are cubes."""
    yield sequence
    if not is_isotropic(sequence.image, told_spacing(sequence.spacing, sequence.modality)):
        return
    for axis in (1, 2):
        image = np.moveaxis(sequence.image, axis, 0)
        labels = np.moveaxis(sequence.labels, axis, 0)
        order = [axis, *(a for a in range(3) if a != axis)]
        z, y, x = (sequence.spacing[a] for a in order)
        name = f"{sequence.name}, axis {axis}"
        yield replace(sequence, name=name, image=image, labels=labels, spacing=(z, y, x))


def synthetic_sequences(kind: str, seed: int) -> list[TrueSequence]:
    """Make a synthetic volume of some slices; every second one says how far they are apart."""
    rng = np.random.default_rng([synthetic.KINDS.index(kind), seed])
    shape = int(rng.integers(*_SLICES)), _SIDE, _SIDE
    image, labels = synthetic.synthetic_volume(kind, shape, int(rng.integers(2**31)))
    spacing = (2.0, 2.0, 2.0) if seed % 2 else (1.0, 1.0, 1.0)
    return [TrueSequence(f"{kind} {seed}", "synthetic", image, labels, spacing)]
