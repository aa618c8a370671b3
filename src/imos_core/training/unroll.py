"""One pass through a batch of clips: memorise the prompt, segment the rest, sum the losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

from imos_core import affinity
from imos_core.model import Guide, QueryFeatures, soft_aggregate
from imos_core.training.losses import bootstrapped_cross_entropy, dice_loss

if TYPE_CHECKING:
    from torch import Tensor

    from imos_core.data.batches import Batch
    from imos_core.model import IMOS


class PassResult(NamedTuple):
    """Outcome of one pass."""

    loss: Tensor
    """Scalar: sum over frames of cross entropy and dice."""
    jaccard: float
    """Mean Jaccard index over frames and clips, prompt left out."""


def training_pass(
    model: IMOS,
    batch: Batch,
    *,
    iteration: int,
    warm_up: tuple[int, int],
    references: int = 3,
    deep_update_probability: float = 0.2,
    enclosed: float = 0.0,
    generator: torch.Generator | None = None,
) -> PassResult:
    """Unroll the network over clips of one object each (XMem, section 3.5).

    Where a person has painted on both sides, memory holds the far slice from the start; `enclosed`
    batches are such stretches, with the last frame as that slice.

    Parameters
    ----------
    model : IMOS
        Network in training mode.
    batch : Batch
        Clips on the model's device.
    iteration : int
        Step of the run.
    warm_up : tuple of int
        Steps between which cross entropy narrows to the hardest pixels.
    references : int
        Frames in memory: the prompt, and random ones between it and the current frame.
    deep_update_probability : float
        How often the value encoder refreshes the sensory memory after the prompt.
    enclosed : float
        Share of batches that know the truth of their last frame, too, and are not asked for it.
    generator : torch.Generator, optional
        Source of the random choices.

    Returns
    -------
    PassResult
        Loss with gradient, and the Jaccard index reached.
    """
    frames, truth, others = batch.frames, batch.mask[:, :, None], batch.others[:, :, None]
    count, steps = frames.shape[:2]
    encoded = model.encode_query(frames.flatten(0, 1))
    # unbound at once, or every index would leave a gradient of the whole clip's size
    every = (x.reshape(count, steps, *x.shape[1:]).unbind(1) for x in encoded)
    features = [QueryFeatures(*x) for x in zip(*every, strict=True)]
    hidden = model.initial_hidden(frames[:, 0], 1)
    mask = truth[:, 0]
    value, hidden = model.encode_value(
        frames[:, 0], features[0].f16, hidden, mask, others=others[:, 0]
    )
    values, moves = {0: value}, batch.moves_by_entry()
    beyond: list[tuple[QueryFeatures, Tensor]] = []
    last = steps
    # a turn at the end shows a slice that is asked for
    may_enclose = enclosed and steps - 1 not in moves
    if may_enclose and _chance(generator) < enclosed:
        last = steps - 1
        beyond = [_painted_beyond(model, batch, features, value)]
    loss = frames.new_zeros(())
    overlaps = []
    for t in range(1, last):
        if t in moves:
            mask, hidden = renew_window(mask, moves[t]), renew_window(hidden, moves[t])
            continue
        now = features[t]
        chosen = _references(list(values), references, generator)
        readout = _read([*((features[i], values[i]) for i in chosen), *beyond], now)
        guide = None
        if model.config.guided:
            guide = Guide(
                frames[:, t - 1], frames[:, t], mask, others[:, t - 1], features[t - 1].f4
            )
        logits, hidden = model.decode(now, readout, hidden, update_hidden=t < last - 1, guide=guide)
        aggregated, prob = soft_aggregate(torch.sigmoid(logits.float()))
        target = truth[:, t, 0].long()
        cross_entropy, _ = bootstrapped_cross_entropy(aggregated, target, iteration, *warm_up)
        mask = prob[:, 1:]
        loss = loss + cross_entropy + dice_loss(mask, target)
        overlaps.append(_jaccard(mask[:, 0] > 0.5, truth[:, t, 0] > 0.5))
        if t < last - 1:
            deep = _chance(generator) < deep_update_probability
            values[t], hidden = model.encode_value(
                frames[:, t],
                now.f16,
                hidden,
                mask,
                others=others[:, t],
                deep_update=deep,
            )
    return PassResult(loss, float(torch.stack(overlaps).mean()))


def _painted_beyond(
    model: IMOS, batch: Batch, features: list[QueryFeatures], prompt: Tensor
) -> tuple[QueryFeatures, Tensor]:
    """What is remembered of the last frame; of the prompt once more where the object has ended."""
    frame, truth, others = batch.frames[:, -1], batch.mask[:, -1, None], batch.others[:, -1, None]
    value, _ = model.encode_value(
        frame, features[-1].f16, model.initial_hidden(frame, 1), truth, others=others
    )
    here = (truth > 0.5).flatten(1).any(1)

    def chosen(there: Tensor, instead: Tensor) -> Tensor:
        return torch.where(here.reshape(-1, *[1] * (there.ndim - 1)), there, instead)

    pairs = zip(features[-1], features[0], strict=True)
    return QueryFeatures(*(chosen(a, b) for a, b in pairs)), chosen(value, prompt)


def renew_window(planes: Tensor, moves: Tensor) -> Tensor:
    """Resample what was seen through an old window to a new one; 0 outside the old.

    Parameters
    ----------
    planes : Tensor
        `(B, n, ..., h, w)`.
    moves : Tensor
        `(B, 3)` side, row and column of the new window's centre, in sides of the old window.
    """
    side, row, col = moves.to(planes.device).unbind(1)
    zero = torch.zeros_like(side)
    theta = torch.stack(
        [torch.stack([side, zero, 2 * col], 1), torch.stack([zero, side, 2 * row], 1)], 1
    )
    flat = planes.float().flatten(1, -3)
    grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, align_corners=False).reshape(planes.shape).to(planes.dtype)


def _chance(generator: torch.Generator | None) -> float:
    """Draw a number from 0 to 1."""
    return float(torch.rand((), generator=generator, dtype=torch.float32, device="cpu"))


def _references(memorised: list[int], most: int, generator: torch.Generator | None) -> list[int]:
    """Draw which memorised frames are read: the prompt is always one."""
    if len(memorised) <= most:
        return memorised
    drawn = torch.randperm(len(memorised) - 1, generator=generator, device="cpu")[: most - 1] + 1
    return [memorised[0], *(memorised[i] for i in sorted(drawn.tolist()))]


def _read(memory: list[tuple[QueryFeatures, Tensor]], query: QueryFeatures) -> Tensor:
    """Read memory frames, features and values, with a full softmax: `(B, 1, CV, h, w)`."""
    key = torch.stack([m.key for m, _ in memory], 2).flatten(2)  # (B, C, T * h * w)
    shrinkage = torch.stack([m.shrinkage for m, _ in memory], 2).flatten(2)
    scores = affinity.similarity(
        key.float(),
        shrinkage.float(),
        query.key.flatten(2).float(),
        query.selection.flatten(2).float(),
    )
    value = torch.stack([v for _, v in memory], 3).flatten(3)  # (B, 1, CV, T * h * w)
    mixed = affinity.readout(torch.softmax(scores, dim=1).to(value.dtype), value)
    return mixed.reshape(*value.shape[:3], *query.key.shape[-2:])


def _jaccard(prediction: Tensor, truth: Tensor) -> Tensor:
    """Jaccard index of boolean `(B, H, W)`; 1 where both are empty."""
    both = (prediction & truth).sum((1, 2)).float()
    either = (prediction | truth).sum((1, 2)).float()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0).mean()
