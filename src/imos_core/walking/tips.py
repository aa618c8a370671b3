"""Tips: windows that start from the tip of something are found, and their masks pushed to grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from imos_core.walking.growth import REACH, TINY, begins, push

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from imos_core.walking.row import Row
    from imos_core.walking.sight import Sight


def find_tips(rows: Sequence[Row], sight: Sight, grey: Tensor) -> None:
    """Find the rows that start from the tip of something.

    Parameters
    ----------
    rows : sequence of Row
        Rows on their painted slices.
    sight : Sight
        Slices that their windows look at.
    grey : Tensor
        `(B, S, S)` intensity (0..1) in the windows.
    """
    samples = grey.shape[-1]
    for row, painted, pixels in zip(rows, grey, _pixels(rows, sight), strict=True):
        # who has painted more than one slice has shown how large it gets
        if pixels > TINY or len(row.leg.anchors) > 1 or row.leg.stretch:
            continue
        back = -1 if row.leg.side == "forward" else 1
        beyond = range(row.index + back, row.index + back * (REACH + 1), back)
        ahead = sight.looked_at(row.leg.slices[:REACH], row.window)
        behind = sight.looked_at(beyond, row.window)
        scale = samples / row.window.height, samples / row.window.width
        if begins(row.mask > 0.5, painted, ahead, behind, scale):
            row.grown = pixels


def grow(rows: Sequence[Row], sight: Sight) -> None:
    """Note how large the masks of tips have become."""
    if any(row.grown is not None for row in rows):
        for row, pixels in zip(rows, _pixels(rows, sight), strict=True):
            row.grown = None if row.grown is None else max(row.grown, pixels)


def pushed(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """Return logits `(B, 1, S, S)`, more of them where a tip has yet to grow."""
    growing = [(i, row.grown) for i, row in enumerate(rows) if row.grown is not None]
    if not growing:
        return logits
    more = torch.zeros(len(logits), dtype=torch.float32, device="cpu")
    for i, grown in growing:
        more[i] = push(grown)
    return logits + more.to(logits.device)[:, None, None, None]


def _pixels(rows: Sequence[Row], sight: Sight) -> list[float]:
    """Pixels of the slice that the mask of each row covers."""
    masks = torch.stack([row.mask for row in rows])
    counts = (masks > 0.5).sum((1, 2)).tolist()  # a GPU is waited for once
    return [
        count * sight.sample_area(row.window) / sight.pixel_area
        for row, count in zip(rows, counts, strict=True)
    ]
