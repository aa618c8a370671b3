"""Whole slices through the network, as in the paper: one propagator per anchor and side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from imos_core.anchors import Contribution
from imos_core.preprocess import normalise
from imos_core.propagator import Propagator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from torch import Tensor

    from imos_core.anchors import Leg, Patch
    from imos_core.config import MemoryConfig
    from imos_core.model import IMOS

_STRIP = 4.0  # long side over short side of a slice beyond which the long one bounds the cost


class WholeSliceCohort:
    """Legs that start from the same anchor to the same side, segmented together.

    Parameters
    ----------
    model : IMOS
        Network.
    memory : MemoryConfig
        Configuration of the memory.
    legs : sequence of Leg
        Legs that differ in their label only.
    planes : callable
        Slice index -> `(3, H, W)` in 0..1.
    known : mapping
        Slice index -> labels; holds the anchors, whole.
    state : mapping, optional
        Go on from there instead of memorising anchors.
    """

    def __init__(
        self,
        model: IMOS,
        memory: MemoryConfig,
        legs: Sequence[Leg],
        planes: Callable[[int], Tensor],
        known: Mapping[int, Patch],
        *,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._legs, self._planes, self._model = list(legs), planes, model
        self._step, self._steps = 0, len(legs[0].slices)
        self._ended: set[int] = set()
        self._propagator = Propagator(model, memory)
        if state is not None:
            self.load_state(state)
            return
        for anchor in reversed(legs[0].anchors):
            masks = np.stack([known[anchor].labels == leg.label for leg in legs])
            frame = self._frame(anchor)
            soft = torch.from_numpy(masks.astype(np.float32)).to(frame.device)
            scaled = F.interpolate(soft[None], size=frame.shape[-2:], mode="nearest")[0]
            self._propagator.memorize(frame, scaled)

    def __len__(self) -> int:
        return len(self._legs) if self._step < self._steps else 0

    def segment(self) -> list[Contribution]:
        """Segment the next slice."""
        index = self._legs[0].slices[self._step]
        prob = self._propagator.segment(self._frame(index)).float()
        shape = self._planes(index).shape[-2:]
        prob = F.interpolate(prob[None], size=shape, mode="bilinear", align_corners=False)[0]
        box = (slice(0, shape[0]), slice(0, shape[1]))
        rivals = tuple(leg.label for leg in self._legs)
        return [
            Contribution(leg, index, box, p, rivals)
            for leg, p in zip(self._legs, prob[1:].cpu().numpy(), strict=True)
            if leg.label not in self._ended
        ]

    def remember(self, ended: Collection[Leg] = ()) -> None:
        """Go on to the next slice; the propagator has memorised what it wants.

        Objects compete inside the network: none is let go before all have ended.
        """
        self._step += 1
        names = {leg.name for leg in ended}  # not labels: those go on to the other side
        self._ended |= {leg.label for leg in self._legs if leg.name in names}
        if len(self._ended) == len(self._legs):
            self._steps = self._step

    def snapshot(self) -> Any:
        """Return what `rollback` needs to undo a step; nothing is copied."""
        return self.state()

    def rollback(self, snapshot: Any) -> None:
        """Be as when the snapshot was taken."""
        self.load_state(snapshot)

    def split(self) -> list[WholeSliceCohort]:
        """Objects of a whole slice compete inside the network: there are no halves."""
        return [self]

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as tensors and plain values."""
        return {
            "legs": [leg.name for leg in self._legs],
            "step": self._step,
            "steps": self._steps,
            "ended": sorted(self._ended),
            "propagator": self._propagator.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` said."""
        known = {leg.name: leg for leg in self._legs}
        self._legs = [known[tuple(leg)] for leg in state["legs"]]
        self._step, self._steps = state["step"], state["steps"]
        self._ended = set(state["ended"])
        self._propagator.load_state(state["propagator"], next(self._model.parameters()).device)

    def unload(self) -> None:
        """Let go of all tensors until `load_state`."""
        self._propagator.clear()

    def _frame(self, index: int) -> Tensor:
        """Normalise a slice, then resize it so that its short side fits the network.

        In strips, the long side has to.
        """
        plane = self._planes(index)[: self._model.channels]
        plane = normalise(plane, self._model.config.normalisation)
        height, width = plane.shape[-2:]
        scale = self._model.config.full_size / max(min(height, width), max(height, width) / _STRIP)
        size = (max(round(height * scale), 1), max(round(width * scale), 1))
        if size == (height, width):
            return plane
        return F.interpolate(
            plane[None], size=size, mode="bilinear", align_corners=False, antialias=scale < 1
        )[0]
