"""Sight: what the windows of objects show of the slices, and where they go next."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from imos_core.anchors import Patch
from imos_core.boxes import beyond, box_of
from imos_core.cutting import sample_lines, sampling_box, sampling_factor, window_lines
from imos_core.errors import FileError, ImageError
from imos_core.preprocess import normalise
from imos_core.walking.damage import SAMPLES, likeness
from imos_core.walking.pursuit import CELLS, VIEW, displacement
from imos_core.walking.thin_prompts import filled
from imos_core.walking.transfers import to_device
from imos_core.windows import Part, follow, window_around

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    import numpy.typing as npt
    from torch import Tensor

    from imos_core.boxes import Box
    from imos_core.walking.parts import PaintedPart
    from imos_core.walking.planes import Planes
    from imos_core.windows import Window


class Sight:
    """Slices and labels as windows show them.

    Parameters
    ----------
    planes : Planes
        Slices to cut windows from.
    known : mapping
        Slice index -> labels known so far. Kept, and expected to grow.
    spacing : (float, float)
        Size of a pixel along rows and columns.
    size : int
        Samples along each side of a window [S].
    normalisation : str
        How intensities are normalised for the network.
    channels : int
        Channels of its frames [C].
    """

    def __init__(
        self,
        planes: Planes,
        known: Mapping[int, Patch],
        spacing: tuple[float, float],
        size: int,
        normalisation: Literal["imagenet", "zscore"],
        channels: int,
    ) -> None:
        self._planes, self._known, self._spacing = planes, known, spacing
        self._size, self._channels = (size, size), channels
        self._normalisation = normalisation

    @property
    def device(self) -> torch.device:
        """Where windows are computed."""
        return self._planes.device

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the slices."""
        return self._planes.shape

    @property
    def pixel_area(self) -> float:
        """Area of a pixel of the slices."""
        return self._spacing[0] * self._spacing[1]

    def sample_area(self, window: Window) -> float:
        """Area of one sample of a window."""
        area = window.height * self._spacing[0] * window.width * self._spacing[1]
        return area / (self._size[0] * self._size[1])

    def cut(self, indices: Sequence[int], windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
        """Windows of slices: normalised `(B, C, S, S)`, and their intensity `(B, S, S)`."""
        cut = self._planes.cut(indices, windows, self._size)
        cut = cut.expand(-1, self._channels, -1, -1).contiguous()
        return normalise(cut, self._normalisation), cut.mean(1)

    def painted(
        self, index: int, label: int, part: PaintedPart | None = None
    ) -> tuple[Window, Tensor, Box]:
        """Return a window around a painted label, the label in it `(S, S)`, and what it covers.

        Or around a part of it, that part, and the rows and columns that hold it; around a stretch,
        all of the label that is to be seen there, and what holds that.
        """
        labels = self._known[index].labels
        if part is None:
            window = window_around(labels == label, self._spacing)
        else:
            origin = part.box[0].start, part.box[1].start
            window = window_around(part.mask, self._spacing, part=Part(origin, self.shape))
        box = sampling_box([window], self.shape, self._size)
        mask = labels[box] == label
        if part is not None and not part.stretch:
            mask = Patch(part.box, part.mask).part(box)
        (painted,) = to_device([mask], self.device)
        seen = self._sampled(painted, box, window)
        if part is not None and part.stretch:
            # the object goes on beyond the window
            held = box_of(mask)
            assert held is not None
            return window, filled(seen, float(seen.sum())), beyond(held, box)
        area = np.count_nonzero(mask) * self.pixel_area
        held = box if part is None else part.box
        return window, filled(seen, area / self.sample_area(window)), held

    def others(
        self, indices: Sequence[int], labels: Sequence[int], windows: Sequence[Window]
    ) -> Tensor:
        """Return all other labels of slices, as far as known, in windows: `(B, S, S)`."""
        shown: dict[int, tuple[npt.NDArray[np.bool_], Box]] = {}
        for i, (index, label, window) in enumerate(zip(indices, labels, windows, strict=True)):
            known = self._known.get(index)
            if known is None:
                continue
            box = sampling_box([window], self.shape, self._size)
            part = known.part(box)
            others = (part != 0) & (part != label)
            if others.any():
                shown[i] = others, box
        sent = to_device([mask for mask, _ in shown.values()], self.device)
        nothing = torch.zeros(self._size, dtype=torch.float32, device=self.device)
        seen = [nothing] * len(windows)
        for (i, (_, box)), mask in zip(shown.items(), sent, strict=True):
            seen[i] = self._sampled(mask, box, windows[i])
        return torch.stack(seen)

    def followed(
        self, index: int, label: int, window: Window, first: Window, box: Box | None
    ) -> Window:
        """Return the window that suits a label as it is known to be on a slice, or a box of it."""
        known = self._known.get(index)
        if known is None:
            return window
        box = box or known.box
        part = Part((box[0].start, box[1].start), self.shape)
        return follow(window, known.part(box) == label, first, self._spacing, part)

    def pursued(
        self, indices: Sequence[int], windows: Sequence[Window], before: Tensor, masks: Tensor
    ) -> tuple[list[Window], list[float]]:
        """Find where windows go on the next slices, and how alike to the slices before they are.

        Parameters
        ----------
        indices : sequence of int
            The next slices.
        windows : sequence of Window
            Windows on the slices before.
        before, masks : Tensor
            `(B, S, S)` intensity and objects in them.

        Returns
        -------
        windows : list of Window
            Moved along where what they show went far.
        alike : list of float
            As `likeness` says where they were; 1 for those that moved along.
        """
        views = [replace(w, height=VIEW * w.height, width=VIEW * w.width) for w in windows]
        seen = self._planes.cut(indices, views, (CELLS, CELLS)).mean(1)
        middle = slice((CELLS - SAMPLES) // 2, (CELLS + SAMPLES) // 2)
        alike = likeness(before, seen[:, middle, middle])
        # one tensor, so that a GPU is waited for once
        said = torch.cat([displacement(before, masks, seen), alike[:, None]], 1).tolist()
        moved, found = [], []
        for w, (down, right, same) in zip(windows, said, strict=True):
            y, x = w.y + down * w.height, w.x + right * w.width
            # what leaves the slice is not followed
            inside = 0 < y < self.shape[0] and 0 < x < self.shape[1]
            goes = bool(down or right)
            moved.append(replace(w, y=y, x=x) if goes and inside else w)
            found.append(1.0 if goes else same)
        return moved, found

    def alike(
        self, indices: Sequence[int], windows: Sequence[Window], before: Tensor
    ) -> list[float]:
        """Say how alike windows on slices ahead are to what they showed before, `(B, S, S)`.

        0 on slices that cannot be read: that is said when their turn comes.
        """
        found = [0.0] * len(windows)
        for index in sorted(set(indices)):
            here = [i for i, other in enumerate(indices) if other == index]
            chosen = [windows[i] for i in here]
            try:
                now = self._planes.cut([index] * len(here), chosen, (SAMPLES, SAMPLES)).mean(1)
            except (FileError, ImageError):
                continue
            for i, value in zip(here, likeness(before[here], now).tolist(), strict=True):
                found[i] = value
        return found

    def looked_at(self, indices: Sequence[int], window: Window) -> Tensor:
        """Return what a window shows on some slices, `(n, S, S)`, as far as there are any.

        None of them where they cannot be read, whatever the image says: that is said when their
        turn comes, which it need not.
        """
        there = [k for k in indices if 0 <= k < self._planes.length]
        nothing = torch.zeros(0, *self._size, dtype=torch.float32, device=self.device)
        if not there:
            return nothing
        try:
            return self._planes.cut(there, [window] * len(there), self._size).mean(1)
        except torch.OutOfMemoryError:
            raise  # fewer windows at a time will do
        except Exception:  # nobody has asked for slices behind the painted one
            return nothing

    def _sampled(self, mask: Tensor, box: Box, window: Window) -> Tensor:
        """Sample a part of a slice, `(h, w)` bool, in a window: `(S, S)`."""
        lines = window_lines(window, self._size, self.device)
        factors, origin = sampling_factor(window, self._size), (box[0].start, box[1].start)
        return sample_lines(mask.float()[None], lines, factors, border=False, origin=origin)[0]
