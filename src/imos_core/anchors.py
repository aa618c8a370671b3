"""Anchors: which slices are reached from which painted slice, and how two sides are blended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from imos_core.boxes import around, beyond, box_of, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from imos_core.boxes import Box

Side = Literal["forward", "backward"]
Walk = tuple[int, int, str, int]
"""What tells a leg from others: label, anchor, side, part."""
Source = Literal["anchor", "forward", "backward", "blend"]


_GROWTH = 0.25
"""Power of an anchor's area in the weight of what comes from there."""


@dataclass(frozen=True, eq=False)
class Patch:
    """Labels of a slice: those in a box, and nothing outside."""

    box: Box
    """Rows and columns."""
    labels: npt.NDArray[Any]
    """Labels there."""

    def part(self, box: Box) -> npt.NDArray[Any]:
        """Labels in another box of the slice."""
        found = np.zeros([s.stop - s.start for s in box], self.labels.dtype)
        common = tuple(
            slice(max(a.start, b.start), min(a.stop, b.stop))
            for a, b in zip(self.box, box, strict=True)
        )
        if all(s.start < s.stop for s in common):
            rows, cols = common
            found[within((rows, cols), box)] = self.labels[within((rows, cols), self.box)]
        return found


@dataclass(frozen=True, eq=False)
class Merged:
    """What all legs say of a slice together."""

    patch: Patch
    """Labels, in the box in which anybody looked."""
    sure: npt.NDArray[np.float16]
    """Confidence in that box; outside it is 1."""
    source: Source
    """Where they come from."""

    def planes(self, shape: tuple[int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float16]]:
        """Labels and confidence of the whole slice, `(H, W)` each."""
        labels = np.zeros(shape, self.patch.labels.dtype)
        confidence = np.ones(shape, np.float16)
        labels[self.patch.box], confidence[self.patch.box] = self.patch.labels, self.sure
        return labels, confidence


@dataclass(frozen=True)
class Leg:
    """One label, or a part of it, walked from one anchor in one direction."""

    label: int
    """Label id."""
    anchor: int
    """Slice it starts from."""
    side: Side
    """Direction."""
    slices: tuple[int, ...]
    """Slices to segment, in the order of walking, each the neighbour of the one before."""
    anchors: tuple[int, ...]
    """All painted slices of the label, nearest first."""
    part: int = 0
    """Number of the part (`imos_core.walking.parts`) on the anchor that it walks; 0: all of it."""
    stretch: bool = False
    """Whether that part is a stretch of a longer object, which goes on beyond it."""

    @property
    def name(self) -> Walk:
        """What tells it from others: label, anchor, side, part."""
        return self.label, self.anchor, self.side, self.part

    @property
    def memorised(self) -> tuple[int, ...]:
        """Painted slices that are memorised for good, nearest first.

        Which parts of other anchors belong to a part nobody has said.
        """
        return self.anchors[:1] if self.part else self.anchors

    @property
    def enclosed(self) -> bool:
        """Whether the label is painted beyond it too."""
        if self.side == "forward":
            return max(self.anchors) > self.slices[-1]
        return min(self.anchors) < self.slices[-1]

    def ahead(self, step: int, most: int) -> tuple[int, ...]:
        """Slices that it comes to behind one, the painted one that encloses it included."""
        last = self.slices[-1]
        beyond = (last + (1 if self.side == "forward" else -1),) if self.enclosed else ()
        return (*self.slices[step + 1 : step + 1 + most], *beyond)[:most]


@dataclass(frozen=True, eq=False)
class Contribution:
    """What one leg says of one slice."""

    leg: Leg
    """Where it comes from."""
    index: int
    """Slice."""
    box: Box
    """Rows and columns that the patch covers; outside, the object is absent."""
    patch: npt.NDArray[np.float32]
    """Probability of the object in that box."""
    rivals: tuple[int, ...] = ()
    """Labels, its own included, with which it has competed in the network already: probabilities
    of these and of the background add up to 1."""

    def within(self, box: Box) -> Contribution:
        """Return what is said of a box inside its own."""
        return replace(self, box=box, patch=self.patch[within(box, self.box)])

    @cached_property
    def shown_in(self) -> Box:
        """Rows and columns of the slice in which it shows the object, before others compete."""
        return beyond(box_of(self.patch > 0.5) or (slice(0, 0), slice(0, 0)), self.box)


def plan_legs(
    anchors: Mapping[int, tuple[int, ...]], start: int, stop: int, direction: str
) -> list[Leg]:
    """Plan how every slice of a range is reached.

    Between two anchors of a label both walk towards each other over the whole stretch; beyond the
    outermost ones there is one side. What lies between an anchor and the range is walked, too.

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
                ahead = tuple(range(anchor + 1, min(end, stop)))
                if ahead and ahead[-1] >= start:
                    legs.append(Leg(label, anchor, "forward", ahead, nearest))
            if direction in ("both", "backward"):
                end = painted[i - 1] if i else start - 1
                behind = tuple(range(anchor - 1, max(end, start - 1), -1))
                if behind and behind[-1] < stop:
                    legs.append(Leg(label, anchor, "backward", behind, nearest))
    return legs


def merge(
    contributions: Iterable[Contribution],
    dtype: np.dtype[Any],
    areas: Mapping[tuple[int, int], int] | None = None,
) -> Merged:
    """Merge what legs say of a slice: labels, confidence, and where they come from.

    Objects compete by soft aggregation (odds of each object against everything else,
    normalised), unless all of them have done so in the network, which would weaken them twice;
    confidence is the normalised probability of the winner.

    Parameters
    ----------
    contributions : iterable of Contribution
        Opinions of all legs.
    dtype : dtype
        Type of the labels.
    areas : mapping of (int, int) to int, optional
        Label and anchor -> pixels that are painted there; where it is not known, all count alike.
    """
    by_label: dict[int, list[Contribution]] = {}
    for contribution in contributions:
        by_label.setdefault(contribution.leg.label, []).append(contribution)
    # where no leg looks there is nothing, for sure
    blended = {k: _blend(v, areas or {}) for k, v in sorted(by_label.items())}
    box = around([b for b, _ in blended.values()])
    said = [c for cs in by_label.values() for c in cs]
    # each with all others that are here, or that nothing speaks for
    have_competed = all(by_label.keys() <= {*c.rivals} for c in said)
    labels, sure = (_settled if have_competed else _compete)(blended, box, dtype)
    sides = {c.leg.side for c in said}
    source: Source = next(iter(sides)) if len(sides) == 1 else "blend"
    return Merged(Patch(box, labels), sure, source)


def _compete(
    blended: Mapping[int, tuple[Box, npt.NDArray[np.float32]]], box: Box, dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float16]]:
    """Soft aggregation of objects inside a box: labels and confidence."""
    shape = (box[0].stop - box[0].start, box[1].stop - box[1].start)
    best = np.zeros(shape, np.float32)
    labels = np.zeros(shape, dtype)
    log_background = np.zeros(shape, np.float32)
    odds = np.zeros(shape, np.float32)
    for label, (where, patch) in blended.items():
        inner = within(where, box)
        prob = np.clip(patch, 1e-6, 1 - 1e-6)
        log_background[inner] += np.log1p(-prob)
        odds[inner] += prob / (1 - prob)
        wins = prob > best[inner]
        best[inner][wins] = prob[wins]
        labels[inner][wins] = label
    background = np.clip(np.exp(log_background), 1e-6, 1 - 1e-6)
    odds_background = background / (1 - background)
    labels[best <= background] = 0
    odds_best = np.maximum(best / (1 - np.minimum(best, 1 - 1e-6)), odds_background)
    return labels, (odds_best / (odds + odds_background)).astype(np.float16)


def _settled(
    blended: Mapping[int, tuple[Box, npt.NDArray[np.float32]]], box: Box, dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float16]]:
    """Labels and confidence of objects that have competed: the most probable one."""
    shape = (box[0].stop - box[0].start, box[1].stop - box[1].start)
    best = np.zeros(shape, np.float32)
    labels = np.zeros(shape, dtype)
    total = np.zeros(shape, np.float32)
    for label, (where, patch) in blended.items():
        inner = within(where, box)
        total[inner] += patch
        wins = patch > best[inner]
        best[inner][wins] = patch[wins]
        labels[inner][wins] = label
    background = np.maximum(1 - total, 0)
    labels[best <= background] = 0
    # where sides are blended pixel by pixel, the sum is not quite 1
    return labels, (np.maximum(best, background) / (total + background)).astype(np.float16)


def _united(parts: Sequence[Contribution]) -> Contribution:
    """Put together what the parts of a label say that have started from one anchor."""
    if len(parts) == 1:
        return parts[0]
    box = around([p.box for p in parts])
    patch = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), np.float32)
    for part in parts:
        inside = patch[within(part.box, box)]
        np.maximum(inside, part.patch, out=inside)
    return replace(parts[0], box=box, patch=patch)


def _blend(
    contributions: Iterable[Contribution], areas: Mapping[tuple[int, int], int]
) -> tuple[Box, npt.NDArray[np.float32]]:
    """Blend the sides of one label: nearer anchors, surer pixels, and larger objects weigh more.

    Masks lag behind objects that grow: what comes from a small end lacks much of one, and is sure.
    """
    walks: dict[tuple[int, Side], list[Contribution]] = {}
    for contribution in contributions:
        leg = contribution.leg
        walks.setdefault((leg.anchor, leg.side), []).append(contribution)
    opinions = [_united(parts) for _, parts in sorted(walks.items())]
    if len(opinions) == 1:
        return opinions[0].box, opinions[0].patch
    box = around([o.box for o in opinions])
    shape = (box[0].stop - box[0].start, box[1].stop - box[1].start)
    total, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for opinion in opinions:
        whole = np.zeros_like(total)
        whole[within(opinion.box, box)] = opinion.patch
        sure = np.abs(2 * whole - 1) + 0.1
        area = areas.get((opinion.leg.label, opinion.leg.anchor), 1)
        weight = sure * area**_GROWTH / abs(opinion.index - opinion.leg.anchor)
        total += weight * whole
        weights += weight
    return box, (total / weights).astype(np.float32, copy=False)
