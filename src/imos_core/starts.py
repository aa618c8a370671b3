"""What painted slices say of the walks that start there: in how many windows, and how fine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from imos_core.anchors import Patch
from imos_core.boxes import beyond, objects_of
from imos_core.parts import MUCH, parts_of
from imos_core.windows import Part, is_thin, window_around

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    from imos_core.anchors import Leg
    from imos_core.boxes import Box
    from imos_core.config import ModelConfig


@dataclass(frozen=True, eq=False)
class Starts:
    """Objects on the painted slices that somebody walks from."""

    areas: Mapping[tuple[int, int], int]
    """Label and painted slice -> pixels."""
    sizes: Mapping[tuple[int, int, int], int]
    """Label, painted slice and number of a part (0: all of it) -> samples along each side of its
    windows."""
    parts: Mapping[tuple[int, int], Patch]
    """Label and painted slice -> numbers of the parts, of labels that are walked in several."""

    def size(self, leg: Leg) -> int:
        """Samples along each side of the windows of a leg."""
        return self.sizes[leg.label, leg.anchor, leg.part]

    def walked(self, legs: Iterable[Leg]) -> list[Leg]:
        """Return legs of labels, or of each of their parts."""
        walked: list[Leg] = []
        for leg in legs:
            own = self.parts.get((leg.label, leg.anchor))
            if own is None:
                walked.append(leg)
            else:
                walked += [replace(leg, part=n) for n in range(1, int(own.labels.max()) + 1)]
        return walked


class _Seen(NamedTuple):
    """How a window shows an object."""

    samples: int
    """Samples along each side."""
    step: float
    """Pixels from one to the next."""


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
    that lie far apart has several windows, where these show it much more finely.

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
    """
    usual, finer = config.window(colour), config.fine_window(colour)

    def seen(mask: npt.NDArray[np.bool_], box: Box, shape: tuple[int, int]) -> _Seen:
        where = Part((box[0].start, box[1].start), shape)
        window = window_around(mask, spacing, part=where)
        thin = fine and finer > usual and is_thin(mask, window, usual)
        size = finer if thin else usual
        return _Seen(size, max(window.height * spacing[0], window.width * spacing[1]) / size)

    areas, sizes, parts = {}, {}, {}
    wanted = {(leg.label, leg.anchor) for leg in legs}
    for anchor in sorted({anchor for _, anchor in wanted}):
        plane = slices[anchor]
        here = {label for label, k in wanted if k == anchor}
        for label, area, box in objects_of(plane, here):
            mask = plane[box] == label
            whole = seen(mask, box, plane.shape)
            areas[label, anchor], sizes[label, anchor, 0] = area, whole.samples
            if not divide:
                continue
            numbers = parts_of(mask, plane.shape, spacing)
            found = [(n, inner, beyond(inner, box)) for n, _, inner in objects_of(numbers)]
            each = [seen(numbers[inner] == n, there, plane.shape) for n, inner, there in found]
            if len(each) > 1 and whole.step >= MUCH * max(s.step for s in each):
                parts[label, anchor] = Patch(box, numbers)
                sizes.update({(label, anchor, n): s.samples for n, s in enumerate(each, 1)})
    return Starts(areas, sizes, parts)
