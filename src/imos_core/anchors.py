"""Anchors: which slices are reached from which painted slice, and how two sides are blended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

Side = Literal["forward", "backward"]
Source = Literal["anchor", "forward", "backward", "blend"]


@dataclass(frozen=True)
class Leg:
    """One label walked from one anchor in one direction."""

    label: int
    """Label id."""
    anchor: int
    """Slice it starts from."""
    side: Side
    """Direction."""
    slices: tuple[int, ...]
    """Slices to segment, in the order of walking."""
    anchors: tuple[int, ...]
    """All painted slices of the label, nearest first; each is memorised for good."""


@dataclass(frozen=True, eq=False)
class Contribution:
    """What one leg says of one slice."""

    leg: Leg
    """Where it comes from."""
    index: int
    """Slice."""
    box: tuple[slice, slice]
    """Rows and columns that the patch covers; outside, the object is absent."""
    patch: npt.NDArray[np.float32]
    """Probability of the object in that box."""


def plan_legs(
    anchors: Mapping[int, tuple[int, ...]], start: int, stop: int, direction: str
) -> list[Leg]:
    """Plan how every slice of a range is reached.

    Between two anchors of a label both walk towards each other over the whole stretch; beyond the
    outermost ones there is one side.

    Parameters
    ----------
    anchors : mapping of int to tuple of int
        Label id -> painted slices, ascending.
    start, stop : int
        Half-open range of slices.
    direction : str
        ``"both"``, ``"forward"`` or ``"backward"``.

    Returns
    -------
    list of Leg
        Legs with at least one slice.
    """
    legs: list[Leg] = []
    for label, painted in anchors.items():
        for i, anchor in enumerate(painted):
            nearest = tuple(sorted(painted, key=lambda a: abs(a - anchor)))
            if direction in ("both", "forward"):
                end = painted[i + 1] if i + 1 < len(painted) else stop
                ahead = tuple(k for k in range(anchor + 1, end) if start <= k < stop)
                if ahead:
                    legs.append(Leg(label, anchor, "forward", ahead, nearest))
            if direction in ("both", "backward"):
                end = painted[i - 1] if i else start - 1
                behind = tuple(k for k in range(anchor - 1, end, -1) if start <= k < stop)
                if behind:
                    legs.append(Leg(label, anchor, "backward", behind, nearest))
    return legs


class SliceMerger:
    """Collect contributions to one slice and merge them into labels.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the slice.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._by_label: dict[int, list[Contribution]] = {}

    def add(self, contribution: Contribution) -> None:
        """Take one leg's opinion."""
        self._by_label.setdefault(contribution.leg.label, []).append(contribution)

    @property
    def count(self) -> int:
        """Contributions so far."""
        return sum(len(c) for c in self._by_label.values())

    def merge(
        self, dtype: np.dtype[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float16], Source]:
        """Merge: labels `(H, W)`, confidence `(H, W)` and where they come from.

        Objects compete by soft aggregation (odds of each object against everything else,
        normalised); confidence is the normalised probability of the winner.
        """
        best = np.zeros(self._shape, np.float32)
        labels = np.zeros(self._shape, dtype)
        log_background = np.zeros(self._shape, np.float32)
        odds = np.zeros(self._shape, np.float32)
        for label, contributions in self._by_label.items():
            box, prob = _blend(contributions, self._shape)
            prob = np.clip(prob, 1e-6, 1 - 1e-6)
            log_background[box] += np.log1p(-prob)
            odds[box] += prob / (1 - prob)
            wins = prob > best[box]
            best[box][wins] = prob[wins]
            labels[box][wins] = label
        background = np.clip(np.exp(log_background), 1e-6, 1 - 1e-6)
        odds_background = background / (1 - background)
        labels[best <= background] = 0
        odds_best = np.maximum(best / (1 - np.minimum(best, 1 - 1e-6)), odds_background)
        confidence = odds_best / (odds + odds_background)
        return labels, confidence.astype(np.float16), self._source()

    def _source(self) -> Source:
        sides = {c.leg.side for cs in self._by_label.values() for c in cs}
        return next(iter(sides)) if len(sides) == 1 else "blend"


def _blend(
    contributions: Iterable[Contribution], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], npt.NDArray[np.float32]]:
    """Blend the sides of one label: nearer anchors and surer pixels weigh more."""
    opinions = list(contributions)
    if len(opinions) == 1:
        return opinions[0].box, opinions[0].patch
    rows = slice(min(o.box[0].start for o in opinions), max(o.box[0].stop for o in opinions))
    cols = slice(min(o.box[1].start for o in opinions), max(o.box[1].stop for o in opinions))
    total = np.zeros(shape, np.float32)[rows, cols]
    weights = np.zeros_like(total)
    for opinion in opinions:
        whole = np.zeros_like(total)
        inner = (
            slice(opinion.box[0].start - rows.start, opinion.box[0].stop - rows.start),
            slice(opinion.box[1].start - cols.start, opinion.box[1].stop - cols.start),
        )
        whole[inner] = opinion.patch
        sure = np.abs(2 * whole - 1) + 0.1
        weight = sure / abs(opinion.index - opinion.leg.anchor)
        total += weight * whole
        weights += weight
    return (rows, cols), total / weights
