"""Fit the presence head: run the network on training sequences, learn where its masks are of use.

``python -m imos_core.training.presence WEIGHTS SEQUENCES -o WEIGHTS`` is the last step of training;
the network itself stays as it is. What other networks of its kind found (``--also``) makes the head
depend less on the habits of one.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from imos_core import synthetic
from imos_core.errors import ImosError, WeightsError
from imos_core.model.presence import PresenceHead
from imos_core.tensor_files import read_state
from imos_core.training.material import licensed_sequences
from imos_core.training.walks import Judged, collect, cuts, synthetic_sequences
from imos_core.weights import ModelInfo, load_model, save_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from imos_core.evaluation.protocols import TrueSequence

_PRESENT, _ABSENT = 0.8, 1.0
"""Least weight of a slice with and without its object; a good mask weighs up to 1 more."""
_RATE, _NOISE = 5e-3, 0.15
_FOLDS = 4
_UNITS = 72
_OF_SYNTHETIC = 3
"""Objects of a synthetic volume that are followed."""


def fit(judged: Judged, *, steps: int = 400, members: int = 6, seed: int = 0) -> PresenceHead:
    """Fit a head, the mean of several that learn side by side, each from a start of its own.

    Slices weigh as much as is lost with them: the overlap of a mask that is hidden, a clean slice.

    Parameters
    ----------
    judged : Judged
        Evidence of whole journeys.
    steps : int
        Steps.
    members : int
        Small heads that share the units; a divisor of 72.
    seed : int
        Of the starts.
    """
    torch.manual_seed(seed)
    head, units = PresenceHead(_UNITS), _UNITS // members
    with torch.no_grad():
        head.centre.copy_(judged.evidence.mean(0))
        head.scale.copy_(1 / judged.evidence.std(0).clamp(min=1e-3))
    head.inner.reset_parameters()
    for parameter in head.course.parameters():
        nn.init.uniform_(parameter, -(units**-0.5), units**-0.5)
    # members know nothing of each other: what leads from one to another stays 0
    own = torch.block_diag(*[torch.ones(units, units)] * members).repeat(3, 1)
    across = [parameter for parameter in head.course.parameters() if parameter.ndim == 2]
    outer = nn.Parameter(torch.empty(2, members, units).uniform_(-1, 1) * (2 * units) ** -0.5)
    bias = nn.Parameter(torch.zeros(members))
    learning = [*head.inner.parameters(), *head.course.parameters(), outer, bias]
    for parameter in learning:
        parameter.requires_grad_(True)
    with torch.no_grad():
        for parameter in across:
            parameter.mul_(own)
    weight = _weights(judged)
    lots = _lots(judged, weight / weight.sum())
    optimizer = torch.optim.AdamW(learning, _RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 0.05 * _RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        for found, present, weights in lots:
            noisy = found + _NOISE * torch.randn_like(found) / head.scale
            seen, way, _ = head.remember(noisy, head.start(len(found)))
            by_member = torch.stack([seen, way], -2).unflatten(-1, (members, units))
            logits = (by_member * outer).sum((-3, -1)) + bias
            F.binary_cross_entropy_with_logits(
                logits,
                present[..., None].expand_as(logits),
                weights[..., None].expand_as(logits),
                reduction="sum",
            ).backward()
        for parameter in across:
            if parameter.grad is not None:
                parameter.grad.mul_(own)
        nn.utils.clip_grad_norm_(learning, members**0.5)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        head.outer.weight.copy_((outer / members).reshape(1, -1))
        head.outer.bias.copy_(bias.mean())
    return head.requires_grad_(False).eval()


@torch.no_grad()
def side_by_side(heads: Sequence[PresenceHead]) -> PresenceHead:
    """Return one head, with the units of several, whose logits are the mean of theirs.

    It scales evidence as the first does, which is folded into the weights of the others: they say
    what they did, but where evidence lies so far out that it is cut off.
    """
    one, first = PresenceHead(sum(head.course.hidden_size for head in heads)), heads[0]
    one.centre.copy_(first.centre)
    one.scale.copy_(first.scale)
    weights = [head.inner.weight * (head.scale / first.scale) for head in heads]
    shifts = [head.inner.weight @ (head.scale * (first.centre - head.centre)) for head in heads]
    one.inner.weight.copy_(torch.cat(weights))
    biases = [head.inner.bias + shift for head, shift in zip(heads, shifts, strict=True)]
    one.inner.bias.copy_(torch.cat(biases))
    for name, whole in one.course.named_parameters():
        parts = [head.course.get_parameter(name).chunk(3) for head in heads]  # one for each gate
        join = torch.block_diag if whole.ndim == 2 else lambda *some: torch.cat(some)
        whole.copy_(torch.cat([join(*gate) for gate in zip(*parts, strict=True)]))
    seen, way = zip(*(head.outer.weight.chunk(2, 1) for head in heads), strict=True)
    one.outer.weight.copy_(torch.cat([*seen, *way], 1) / len(heads))
    one.outer.bias.copy_(torch.stack([head.outer.bias for head in heads]).mean(0))
    return one.eval()


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


def _lots(judged: Judged, weight: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Evidence, presence and weights by journey, in lots of about the same length.

    In one lot, most of it would be what short journeys lack of the longest.
    """
    _, where, counts = torch.unique_consecutive(
        judged.journey, return_inverse=True, return_counts=True
    )
    kinds = counts.log2().ceil()[where]
    lots = []
    for kind in kinds.unique():
        some, weights = judged.select(kinds == kind), weight[kinds == kind]
        present = (some.jaccard >= 0).float()
        lots.append(
            (some.by_journey(some.evidence), some.by_journey(present), some.by_journey(weights))
        )
    return lots


def gain(head: PresenceHead, judged: Judged) -> tuple[float, float]:
    """Mean Jaccard index over slices without and with the head."""
    before = judged.jaccard.clamp(min=0)
    seen = judged.by_journey(judged.evidence)
    logits, _ = head(seen, head.start(len(seen)))
    shown = torch.cat([row[:n] for row, n in zip(logits, judged.lengths, strict=True)]) >= 0
    absent = judged.jaccard < 0
    after = torch.where(shown, before, absent.float())
    return float(before.mean()), float(after.mean())


def _collect_alone(
    weights: Sequence[Path], draw: Callable[[], Iterable[TrueSequence]], max_objects: int
) -> Judged:
    """Do as `collect` with each of several networks, in a process of its own."""
    torch.set_num_threads(1)
    models = [load_model(path, device="cpu") for path in weights]
    found = [collect(model, cut, max_objects) for cut in draw() for model in models]
    judged = Judged.joined(found)
    # it is one sequence, whoever looked at it, along whichever axis
    return replace(judged, group=torch.zeros_like(judged.group))


def _head_of(weights: Path) -> PresenceHead:
    head = load_model(weights, device="cpu").presence
    if head is None:
        raise WeightsError(f"{weights} has no presence head: leave out --beside.")
    return head.float()


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
    parser.add_argument(
        "--beside", type=Path, help="weights whose head counts for half, as two differ by chance"
    )
    parser.add_argument("--max-objects", type=int, default=8, help="of each sequence")
    parser.add_argument(
        "--synthetic", type=int, default=25, help="synthetic volumes of each kind, beside them"
    )
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
    # before anything takes long
    read_state(options.weights)
    heads = [] if options.beside is None else [_head_of(options.beside)]
    sequences = licensed_sequences(options.sequences, options.licences)
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        weights = [options.weights, *options.also]
        draws = [partial(cuts, sequence) for sequence in sequences]
        # of every kind, some are left out each time
        made = [
            partial(synthetic_sequences, kind, seed)
            for kind in synthetic.KINDS
            for seed in range(options.synthetic)
        ]
        objects = [options.max_objects] * len(draws) + [_OF_SYNTHETIC] * len(made)
        parts = pool.map(_collect_alone, repeat(weights), [*draws, *made], objects)
        judged = Judged.joined(list(tqdm(parts, total=len(objects))))
    folds = min(int(judged.group.max()) + 1, _FOLDS)
    for fold in range(folds if folds > 1 else 0):
        held = judged.group % folds == fold
        before, after = gain(fit(judged.select(~held)), judged.select(held))
        tqdm.write(f"left out {fold + 1} of {folds}: mean J per slice {before:.3f} -> {after:.3f}")
    head = side_by_side([*heads, fit(judged)])
    model = load_model(options.weights, device="cpu")
    model.presence = head
    model.config = replace(model.config, presence=head.course.hidden_size)
    known = ModelInfo("", "", "", options.weights).metadata
    save_weights(model, options.output, known)


if __name__ == "__main__":
    sys.exit(main())
