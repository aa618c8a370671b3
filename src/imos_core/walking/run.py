"""One call of propagate(), all of it checked: which slices come, and what labels mean on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from imos_core.anchors import Patch
from imos_core.model.quantised import eight_bits
from imos_core.segmented import SegmentedSlice
from imos_core.walking.checkpoint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from imos_core.anchors import Leg, Merged
    from imos_core.boxes import Box
    from imos_core.config import MemoryConfig
    from imos_core.model import IMOS
    from imos_core.prompt import Prompts
    from imos_core.segmented import Cancel
    from imos_core.sweep import Sweep
    from imos_core.walking.budget import Plan
    from imos_core.walking.checkpoint import Checkpoint
    from imos_core.walking.ending import Ending
    from imos_core.walking.starts import Starts


@dataclass
class Run:
    """One call of `propagate`, all of it checked."""

    sweep: Sweep
    prompts: Prompts
    legs: list[Leg]
    """All that were planned: whose labels compete, and which slices come."""
    walked: list[Leg]
    """Those of them whose labels have not ended before their first slice, by part."""
    model: IMOS
    memory: MemoryConfig
    span: tuple[int, int]
    limits: tuple[float, float]
    pixel: tuple[float, float]
    thickness: float
    device: torch.device
    dtype: torch.dtype
    window: Literal["auto", "full"]
    plan: Plan
    checkpoint: Checkpoint | None
    cancel: Cancel | None
    patience: int | None
    ending: Ending
    starts: Starts
    """Objects that somebody walks from."""
    state: Mapping[str, Any] | None = field(default=None, init=False)
    """After `prepare`: what a checkpoint says, to go on from."""

    def prepare(self) -> None:
        """Check that an interrupted run that is to go on was one like this, and make its folder.

        Raises
        ------
        FileError
            If it was not, or there cannot be one.
        """
        self._fingerprint, self.state = "", None
        if self.checkpoint is not None:
            self._fingerprint = self._digest()
            self.state = self.checkpoint.restore(self._fingerprint)
            self.checkpoint.make_folder()

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint."""
        assert self.checkpoint is not None
        self.checkpoint.save(self._fingerprint, state)

    @property
    def cancelled(self) -> bool:
        """Whether somebody has said stop."""
        return self.cancel is not None and self.cancel.is_set()

    @cached_property
    def reached(self) -> set[int]:
        """Slices that come, those included that nobody walks to."""
        return {k for leg in self.legs for k in leg.slices if k in self.asked}

    @property
    def asked(self) -> range:
        """Slices that were asked for."""
        return range(*self.span)

    def segmented(self, index: int, merged: Merged) -> SegmentedSlice:
        """Put what was found on a slice around what is painted there of other labels."""
        height, width = self.sweep.plane_shape
        labels, sure = merged.planes((height, width))
        if index in self.passed:
            painted = self.prompts.slices[index]
            labels[painted != 0], sure[painted != 0] = painted[painted != 0], 1
        labels = labels.astype(self.prompts.result_dtype, copy=False)
        return SegmentedSlice(index, labels, sure, merged.source)

    def patch(self, index: int, merged: Merged) -> Patch:
        """What is known of a slice from now on: on the anchor of another label, it stays."""
        if index not in self.held:
            return merged.patch
        labels = self.prompts.slices[index].astype(self.prompts.dtype)
        inside = labels[merged.patch.box]
        np.copyto(inside, merged.patch.labels, where=inside == 0, casting="same_kind")
        return Patch(self.whole, labels)

    @cached_property
    def passed(self) -> dict[int, frozenset[int]]:
        """Painted slices that labels go through, as they say nothing of these."""
        passed: dict[int, set[int]] = {}
        for label, where in self.prompts.through.items():
            on_the_way = {k for leg in self.legs if leg.label == label for k in leg.slices}
            for k in where & on_the_way:
                passed.setdefault(k, set()).add(label)
        return {k: frozenset(labels) for k, labels in passed.items()}

    @cached_property
    def anchors(self) -> dict[int, npt.NDArray[Any]]:
        """Painted slices that stay as they are."""
        return {k: v for k, v in self.prompts.slices.items() if k not in self.passed}

    @cached_property
    def held(self) -> frozenset[int]:
        """Painted slices that are known from the start: those that are prompts, or stay."""
        return self.prompts.showing.union(self.anchors)

    @property
    def whole(self) -> Box:
        """All rows and columns."""
        height, width = self.sweep.plane_shape
        return slice(0, height), slice(0, width)

    def distance(self, index: int) -> int:
        """How far a slice is from the next prompt."""
        return min(abs(index - k) for k in self.held)

    @property
    def _goes(self) -> list[tuple[int, list[int]]]:
        """Painted slices that labels go through, and these, in order."""
        return sorted((k, sorted(labels)) for k, labels in self.passed.items())

    def _rounding(self) -> tuple[object, ...]:
        """What eight bits depend on, beyond the weights."""
        if self.dtype != torch.int8:
            return ()
        return eight_bits(), sorted(self.model.activations.items())

    def _digest(self) -> str:
        weights = [t for _, t in sorted(self.model.state_dict().items())]
        painted = [v for k in sorted(self.prompts.slices) for v in (k, self.prompts.slices[k])]
        image = [np.asarray(self.sweep.raw(k)) for k in sorted(self.prompts.slices)[:9]]
        limits = tuple(limit + self.sweep.zero for limit in self.limits)
        plain = (
            self.sweep.axis, self.sweep.length, self.legs, asdict(self.memory), self.span,
            limits, self.pixel, self.thickness, self.dtype, self.window, self.patience,
            self.ending.ranges, *self._goes, *self._rounding(),
        )  # fmt: skip
        return fingerprint(*plain, *painted, *image, *weights)
