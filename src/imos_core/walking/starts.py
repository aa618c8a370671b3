"""What painted slices say of the walks that start there: in how many windows, and how fine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imos_core.boxes import beyond, objects_of
from imos_core.walking.parts import MOST_PARTS, PaintedPart, apart, stretches
from imos_core.windows import Part, is_thin, samples_across, window_around

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from imos_core.anchors import Leg
    from imos_core.boxes import Box
    from imos_core.config import ModelConfig

_LOST = 4.0  # samples: mean thickness below which a fine window loses nearly all of an object
_LEAST = 1.0  # samples of its stretches: below, these do, too
_MUCH = 1.4  # coarseness of one window, over that of several, for which these are worth it


class Start(NamedTuple):
    """An object on a painted slice, or a part of it, as a window shows it."""

    box: Box
    """Rows and columns that hold it."""
    samples: int
    """Samples along each side of its windows."""
    step: float
    """Pixels of the finer spacing from one to the next."""
    across: float
    """Its mean thickness in these; infinite where the usual number of them is enough."""
    stretch: bool = False
    """Whether it is a stretch of a longer object."""


@dataclass(frozen=True, eq=False)
class Starts:
    """Objects on the painted slices that somebody walks from."""

    areas: Mapping[tuple[int, int], int]
    """Label and painted slice -> pixels."""
    whole: Mapping[tuple[int, int], Start]
    """Label and painted slice -> all of it."""
    parts: Mapping[tuple[int, int], list[Start]]
    """The same for the parts of labels that are walked in several windows, in their order."""
    numbers: Mapping[int, npt.NDArray[np.uint8]]
    """Painted slice -> `(H, W)` numbers of parts, from 1, where any label has some."""
    slices: Mapping[int, npt.NDArray[Any]]
    """Painted slice -> `(H, W)` labels."""

    def of(self, leg: Leg) -> Start:
        """Return what a leg walks, on its anchor."""
        where = leg.label, leg.anchor
        return self.parts[where][leg.part - 1] if leg.part else self.whole[where]

    def part(self, leg: Leg) -> PaintedPart | None:
        """Return the part that a leg walks, None if it walks the whole label."""
        if not leg.part:
            return None
        start = self.of(leg)
        mask = self.slices[leg.anchor][start.box] == leg.label
        mask &= self.numbers[leg.anchor][start.box] == leg.part
        return PaintedPart(start.box, mask, start.stretch)

    def walked(self, legs: Iterable[Leg]) -> list[Leg]:
        """Return legs of labels, or of each of their parts."""
        walked: list[Leg] = []
        for leg in legs:
            own = self.parts.get((leg.label, leg.anchor))
            if own is None:
                walked.append(leg)
            else:
                walked += [
                    replace(leg, part=n, stretch=one.stretch) for n, one in enumerate(own, 1)
                ]
        return walked


@dataclass(frozen=True)
class _Look:
    """How windows show what is on a slice."""

    shape: tuple[int, int]
    """Height and width of the slice."""
    spacing: tuple[float, float]
    """Size of a pixel along rows and columns."""
    usual: int
    """Samples along each side of a window."""
    finer: int
    """The same where an object is too thin for that."""

    def at(self, mask: npt.NDArray[np.bool_], box: Box, *, stretch: bool = False) -> Start:
        """Look at an object, `(h, w)`, in a box of the slice."""
        where = Part((box[0].start, box[1].start), self.shape)
        window = window_around(mask, self.spacing, part=where)
        # a stretch fills as much of its window as any
        thin = not stretch and self.finer > self.usual and is_thin(mask, window, self.usual)
        samples = self.finer if thin else self.usual
        sides = window.height * self.spacing[0], window.width * self.spacing[1]
        step = max(sides) / min(self.spacing) / samples
        across = samples_across(mask, window, samples) if thin else math.inf
        return Start(box, samples, step, across, stretch)

    def divided(
        self, mask: npt.NDArray[np.bool_], whole: Start
    ) -> tuple[npt.NDArray[np.uint8], list[Start]]:
        """Divide an object, `(h, w)` in its box, where that shows it much more finely.

        Returns numbers of the parts, `(h, w)`, and what they are; if it is one part, the whole.
        """
        numbers = apart(mask, self.shape, self.spacing)
        found = self._each(numbers, whole.box)
        if not _worth(whole, found):
            numbers, found = mask.astype(np.uint8), [whole]
        for n, one in enumerate(found[:], 1):
            if one.across >= _LOST:
                continue
            cut = stretches(numbers == n, self.spacing, MOST_PARTS + 1 - len(found))
            pieces = self._each(cut, whole.box, stretch=True)
            if not _worth(one, pieces):
                continue
            if one.across * one.step < _LEAST * max(p.step for p in pieces):
                continue
            # the first one takes the number of all, the others come last
            rest = cut > 1
            numbers[rest] = cut[rest] + (len(found) - 1)
            found[n - 1] = pieces[0]
            found += pieces[1:]
        return numbers, found

    def _each(
        self, numbers: npt.NDArray[np.uint8], box: Box, *, stretch: bool = False
    ) -> list[Start]:
        """Look at every part in a box."""
        return [
            self.at(numbers[inner] == n, beyond(inner, box), stretch=stretch)
            for n, _, inner in objects_of(numbers)
        ]


def _worth(one: Start, several: list[Start]) -> bool:
    """Whether several windows show much more than one."""
    return len(several) > 1 and one.step >= _MUCH * max(s.step for s in several)


def starts_of(
    legs: Iterable[Leg],
    slices: Mapping[int, npt.NDArray[Any]],
    config: ModelConfig,
    spacing: tuple[float, float],
    *,
    colour: bool,
    fine: bool = True,
    divide: bool = True,
) -> Starts:
    """Look at the objects that are walked from, where they are painted.

    Windows are sampled twice as finely where an object is too thin otherwise. An object of parts
    that lie far apart, and one that is long and too thin even for that, has several windows, where
    these show it much more finely.

    Parameters
    ----------
    legs : iterable of Leg
        What is walked.
    slices : mapping of int to ndarray
        Painted slice -> `(H, W)` labels.
    config : ModelConfig
        Of the network.
    spacing : (float, float)
        Size of a pixel along rows and columns.
    colour : bool
        Whether the image has colours.
    fine, divide : bool
        Whether thin objects, and objects of parts, are looked for: where there are windows.

    Returns
    -------
    Starts
        What there is to walk.
    """
    usual, finer = config.window(colour), config.fine_window(colour)
    areas, whole, parts, numbers = {}, {}, {}, {}
    wanted = {(leg.label, leg.anchor) for leg in legs}
    for anchor in sorted({anchor for _, anchor in wanted}):
        plane = slices[anchor]
        look = _Look(plane.shape, spacing, usual, finer if fine else usual)
        here = {label for label, k in wanted if k == anchor}
        for label, area, box in objects_of(plane, here):
            mask = plane[box] == label
            one = whole[label, anchor] = look.at(mask, box)
            areas[label, anchor] = area
            own, found = look.divided(mask, one) if divide else (mask, [one])
            if len(found) > 1:
                parts[label, anchor] = found
                if anchor not in numbers:
                    numbers[anchor] = np.zeros(plane.shape, np.uint8)
                np.copyto(numbers[anchor][box], own, where=mask)
    return Starts(areas, whole, parts, numbers, slices)
