"""Row: one window of a cohort, with what it remembers of the slice before."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Self

from imos_core.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from imos_core.anchors import Leg, Walk
    from imos_core.boxes import Box


@dataclass
class Row:
    """One window of the batch."""

    leg: Leg
    """What it walks."""
    window: Window
    """Where it is."""
    first: Window
    """Where it was on the painted slice."""
    index: int
    """Slice it has come to."""
    seen: int
    """Slice that frames and features are of: an earlier one where that one is damaged."""
    mask: Tensor
    """`(S, S)` probability of the object."""
    box: Box
    """Rows and columns of the slice that may hold it."""
    middle: Box
    """Those of them that hold what the middle of the window shows, of a stretch."""
    step: int = 0
    """Slices it has walked."""
    grown: float | None = None
    """Pixels of its largest mask so far, if it is a tip (`imos_core.walking.growth`)."""

    @property
    def label(self) -> int:
        """Label id."""
        return self.leg.label

    def state(self) -> dict[str, Any]:
        """Everything but the mask, as plain values."""
        return {
            "leg": self.leg.name,
            "window": astuple(self.window),
            "first": astuple(self.first),
            "index": self.index,
            "seen": self.seen,
            "box": [(side.start, side.stop) for side in self.box],
            "middle": [(side.start, side.stop) for side in self.middle],
            "step": self.step,
            "grown": self.grown,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], legs: Mapping[Walk, Leg], mask: Tensor) -> Self:
        """Be as `state` said, of one of some legs."""
        return cls(
            legs[tuple(state["leg"])],
            Window(*state["window"]),
            Window(*state["first"]),
            state["index"],
            state["seen"],
            mask,
            (slice(*state["box"][0]), slice(*state["box"][1])),
            (slice(*state["middle"][0]), slice(*state["middle"][1])),
            state["step"],
            state["grown"],
        )
