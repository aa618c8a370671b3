"""A pass through long clips whose memory overflows, with truncated back-propagation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from imos_core.memory import ThreeTierMemory
from imos_core.model import Guide, QueryFeatures, soft_aggregate
from imos_core.training.losses import bootstrapped_cross_entropy, dice_loss
from imos_core.training.unroll import PassResult, renew_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from imos_core.config import MemoryConfig
    from imos_core.data.batches import Batch
    from imos_core.memory.store import TokenStore
    from imos_core.model import IMOS


def overflow_pass(
    model: IMOS,
    batch: Batch,
    backward: Callable[[Tensor], None],
    *,
    memory: MemoryConfig,
    truncate: int,
    iteration: int,
    warm_up: tuple[int, int],
) -> PassResult:
    """Unroll the network as inference does: working memory fills, is consolidated, evicted.

    Frames are processed in stretches; after each, gradients flow back through it and no further,
    so that the length of a clip costs time but no room. Memory keeps what it has learned.

    Parameters
    ----------
    model : IMOS
        Network in training mode.
    batch : Batch
        Clips on the model's device.
    backward : callable
        Called with the loss of every stretch, as a share of the whole clip's.
    memory : MemoryConfig
        Limits of the three tiers, narrow enough for the clips to overflow them.
    truncate : int
        Frames of a stretch.
    iteration : int
        Step of the run.
    warm_up : tuple of int
        Steps between which cross entropy narrows to the hardest pixels.

    Returns
    -------
    PassResult
        Loss without gradient (mean over frames times their number), and the Jaccard index reached.
    """
    frames, truth, others = batch.frames, batch.mask[:, :, None], batch.others[:, :, None]
    steps, moves = frames.shape[1], batch.moves_by_entry()
    tiers = ThreeTierMemory(memory)
    hidden = model.initial_hidden(frames[:, 0], 1)
    mask = truth[:, 0]
    total = 0.0
    overlaps = []
    for start in range(1, steps, truncate):
        stop = min(start + truncate, steps)
        # the frame before is seen again: the guide looks there, and gradients may flow
        features = _encode(model, frames[:, start - 1 : stop])
        if start == 1:
            value, hidden = model.encode_value(
                frames[:, 0], features[0].f16, hidden, mask, others=others[:, 0]
            )
            _write(tiers, features[0], value)
        loss = frames.new_zeros(())
        for t in range(start, stop):
            if t in moves:
                mask, hidden = renew_window(mask, moves[t]), renew_window(hidden, moves[t])
                continue
            before, now = features[t - start], features[t - start + 1]
            guide = None
            if model.config.guided:
                guide = Guide(frames[:, t - 1], frames[:, t], mask, others[:, t - 1], before.f4)
            readout = tiers.read(now.key, now.selection)
            memorised = t % memory.memorize_every == 0 and t < steps - 1
            logits, hidden = model.decode(
                now, readout, hidden, update_hidden=not memorised and t < steps - 1, guide=guide
            )
            aggregated, prob = soft_aggregate(torch.sigmoid(logits.float()))
            target = truth[:, t, 0].long()
            cross_entropy, _ = bootstrapped_cross_entropy(aggregated, target, iteration, *warm_up)
            mask = prob[:, 1:]
            loss = loss + cross_entropy + dice_loss(mask, target)
            overlaps.append(_jaccard(mask[:, 0] > 0.5, target > 0))
            if memorised:
                value, hidden = model.encode_value(
                    frames[:, t], now.f16, hidden, mask, others=others[:, t]
                )
                _write(tiers, now, value)
        if loss.requires_grad:
            backward(loss / (steps - 1))
            # weights cast to half precision belong to the graph that was just freed
            torch.clear_autocast_cache()
        total += float(loss.detach())
        mask, hidden = mask.detach(), hidden.detach()
        _forget_gradients(tiers)
    return PassResult(torch.tensor(total), float(torch.stack(overlaps).mean()))


def _encode(model: IMOS, frames: Tensor) -> list[QueryFeatures]:
    """Query features of each frame of `(B, T, 3, H, W)`, encoded at once."""
    count, steps = frames.shape[:2]
    encoded = model.encode_query(frames.flatten(0, 1))
    unfolded = [x.reshape(count, steps, *x.shape[1:]) for x in encoded]
    return [QueryFeatures(*(x[:, t] for x in unfolded)) for t in range(steps)]


def _write(tiers: ThreeTierMemory, features: QueryFeatures, value: Tensor) -> None:
    # in float32: sparse reads of half precision have no gradient everywhere
    tiers.write(features.key, features.shrinkage, value.float(), features.selection, [1])


def _forget_gradients(tiers: ThreeTierMemory) -> None:
    for tier in (tiers.working, tiers.long_term):
        if tier.tokens is not None:
            tier.tokens = _detached(tier.tokens)


def _detached(store: TokenStore) -> TokenStore:
    return replace(
        store,
        key=store.key.detach(),
        shrinkage=store.shrinkage.detach(),
        selection=None if store.selection is None else store.selection.detach(),
        values=tuple(v.detach() for v in store.values),
        use=store.use.detach(),
        life=store.life.detach(),
    )


def _jaccard(prediction: Tensor, truth: Tensor) -> Tensor:
    """Jaccard index of boolean `(B, H, W)`; 1 where both are empty."""
    both = (prediction & truth).sum((1, 2)).float()
    either = (prediction | truth).sum((1, 2)).float()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0).mean()
