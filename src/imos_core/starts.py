"""What the painted slice that a walk starts from says of it: how large it is, how fine to look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from imos_core.boxes import objects_of
from imos_core.windows import Part, is_thin, window_around

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from imos_core.anchors import Leg
    from imos_core.config import ModelConfig


class Start(NamedTuple):
    """An object on the painted slice that somebody walks from."""

    area: int
    """Pixels."""
    size: int
    """Samples along each side of its windows."""


def starts_of(
    legs: Iterable[Leg],
    slices: Mapping[int, npt.NDArray[Any]],
    config: ModelConfig,
    spacing: tuple[float, float],
    *,
    colour: bool,
    fine: bool = True,
) -> dict[tuple[int, int], Start]:
    """Look at the objects that are walked from, where they are painted.

    Windows are sampled twice as finely where an object is too thin otherwise.

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
    fine : bool
        Whether thin objects are looked for, as they are where there are windows.

    Returns
    -------
    dict of (int, int) to Start
        By label and painted slice.
    """
    size, finer = config.window(colour), config.fine_window(colour)
    wanted = {(leg.label, leg.anchor) for leg in legs}
    found = {}
    for anchor in sorted({anchor for _, anchor in wanted}):
        plane = slices[anchor]
        here = {label for label, k in wanted if k == anchor}
        for label, area, box in objects_of(plane, here):
            samples = size
            if fine and finer > size:
                mask = plane[box] == label
                part = Part((box[0].start, box[1].start), plane.shape)
                if is_thin(mask, window_around(mask, spacing, part=part), size):
                    samples = finer
            found[label, anchor] = Start(area, samples)
    return found
