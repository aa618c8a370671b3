"""Fit the presence head: run the network on training sequences, learn where its masks are of use.

``python -m imos_core.training.presence WEIGHTS SEQUENCES -o WEIGHTS`` is the last step of training;
the network itself stays as it is. What other networks of its kind found (``--also``) makes the head
depend less on the habits of one.
"""

from __future__ import annotations

import argparse
import copy
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import count, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from imos_core.errors import ImosError
from imos_core.evaluation.protocols import tasks_of
from imos_core.model.presence import EVIDENCE, HIDDEN, PresenceHead
from imos_core.propagation import propagate
from imos_core.tensor_files import read_state
from imos_core.training.material import licensed_sequences
from imos_core.weights import ModelInfo, load_model, save_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imos_core.evaluation.protocols import Task, TrueSequence
    from imos_core.model import IMOS

_PRESENT, _ABSENT = 0.8, 1.0
"""Least weight of a slice with and without its object; a good mask weighs up to 1 more."""
_RATE, _NOISE = 5e-3, 0.15
_FOLDS = 4
_DOUBT = 0.9
"""Benefit of the doubt, as a logit: what a person sees and does not want is erased sooner than what
is missing is painted."""


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


def _collect_alone(weights: Sequence[Path], sequence: TrueSequence, max_objects: int) -> Judged:
    """Do as `collect` with each of several networks, in a process of its own."""
    torch.set_num_threads(1)
    models = (load_model(path, device="cpu") for path in weights)
    found = Judged.joined([collect(model, sequence, max_objects) for model in models])
    # it is one sequence, whoever looked at it
    return replace(found, group=torch.zeros_like(found.group))


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


def fit(judged: Judged, *, steps: int = 400, members: int = 6, seed: int = 0) -> PresenceHead:
    """Fit a head, the mean of several that differ in their seeds.

    Slices weigh as much as is lost with them: the overlap of a mask that is hidden, a clean slice.

    Parameters
    ----------
    judged : Judged
        Evidence of whole journeys.
    steps : int
        Steps of each member.
    members : int
        Small heads that are fitted and share the units; a divisor of `HIDDEN`.
    seed : int
        Seed of the first member.
    """
    weight = _weights(judged)
    units = HIDDEN // members
    heads = [_fit_one(judged, weight, steps, seed + i, units) for i in range(members)]
    head = PresenceHead.merged(heads)
    with torch.no_grad():
        head.outer.bias.add_(_DOUBT)
    return head.requires_grad_(False).eval()


def _weights(judged: Judged) -> Tensor:
    """How much slices matter, `(N,)`, 1 on average."""
    weight = torch.where(judged.jaccard >= 0, judged.jaccard + _PRESENT, torch.tensor(_ABSENT))
    # long sequences have many slices, whole sequences many more than an object's own range
    kind = judged.group * 2 + judged.first
    weight = weight / torch.bincount(kind).float()[kind].sqrt()
    for some in (judged.first, ~judged.first):
        if some.any():
            weight[some] /= weight[some].sum()
    return weight / weight.mean()


def _fit_one(judged: Judged, weight: Tensor, steps: int, seed: int, units: int) -> PresenceHead:
    torch.manual_seed(seed)
    head = PresenceHead(units)
    with torch.no_grad():
        head.centre.copy_(judged.evidence.mean(0))
        head.scale.copy_(1 / judged.evidence.std(0).clamp(min=1e-3))
    for layer in (head.inner, head.course, head.outer):
        layer.reset_parameters()
        layer.requires_grad_(True)
    seen = judged.by_journey(judged.evidence)
    present = judged.by_journey((judged.jaccard >= 0).float())
    weights = judged.by_journey(weight / weight.sum())
    learning = [p for p in head.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, _RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 0.05 * _RATE)
    start = head.start(len(seen))
    for _ in range(steps):
        optimizer.zero_grad()
        logits, _ = head(seen + _NOISE * torch.randn_like(seen) / head.scale, start)
        loss = F.binary_cross_entropy_with_logits(logits, present, weights, reduction="sum")
        loss.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
    return head


def gain(head: PresenceHead, judged: Judged) -> tuple[float, float]:
    """Mean Jaccard index over slices without and with the head."""
    before = judged.jaccard.clamp(min=0)
    seen = judged.by_journey(judged.evidence)
    logits, _ = head(seen, head.start(len(seen)))
    shown = torch.cat([row[:n] for row, n in zip(logits, judged.lengths, strict=True)]) >= 0
    absent = judged.jaccard < 0
    after = torch.where(shown, before, absent.float())
    return float(before.mean()), float(after.mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, check on sequences left out, write; exit with 2 if something does not serve."""
    parser = argparse.ArgumentParser(
        prog="python -m imos_core.training.presence",
        description="Fit the head that judges whether a slice still shows the object, on what a "
        "network finds in training sequences; the network itself stays as it is.",
    )
    parser.add_argument("weights", type=Path, help="weights file of the network")
    parser.add_argument("sequences", type=Path, help="folder of <modality>/<name>.npz")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="weights file to write, with the head"
    )
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="further networks")
    parser.add_argument("--max-objects", type=int, default=6, help="of each sequence")
    parser.add_argument("--licences", nargs="*", default=["open"], help="classes that may be used")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    try:
        _fit_for(options)
    except ImosError as error:
        sys.stderr.write(f"presence: {error}\n")
        return 2
    return 0


def _fit_for(options: argparse.Namespace) -> None:
    read_state(options.weights)  # before anything takes long
    sequences = licensed_sequences(options.sequences, options.licences)
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        weights = [options.weights, *options.also]
        rest = repeat(weights), sequences, repeat(options.max_objects)
        parts = list(tqdm(pool.map(_collect_alone, *rest), total=len(sequences)))
    judged = Judged.joined(parts)
    folds = min(int(judged.group.max()) + 1, _FOLDS)
    for fold in range(folds if folds > 1 else 0):
        held = judged.group % folds == fold
        before, after = gain(fit(judged.select(~held)), judged.select(held))
        tqdm.write(f"left out {fold + 1} of {folds}: mean J per slice {before:.3f} -> {after:.3f}")
    model = load_model(options.weights)
    model.presence = fit(judged)
    model.config = replace(model.config, presence=True)
    known = ModelInfo("", "", "", options.weights).metadata
    save_weights(model, options.output, known)


if __name__ == "__main__":
    sys.exit(main())
