"""Planes: slices as tensors in 0..1, of which no more is converted than somebody looks at."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from imos_core.cutting import as_tensor, sample_windows, sampling_box, sampling_factor
from imos_core.intensity import as_float32
from imos_core.preprocess import to_unit
from imos_core.walking.transfers import to_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from imos_core.sweep import Sweep
    from imos_core.windows import Window

_SPARSE = 2
"""Windows are cut together unless the box around them is so many times their own area."""


class Planes:
    """Slices of a sweep, the most recent few kept as they were read.

    Parameters
    ----------
    sweep : Sweep
        Where slices are read.
    limits : (float, float)
        Intensities that become 0 and 1, counted from the sweep's `zero`.
    device : torch.device
        Where tensors go.
    kept : int
        Slices that are kept.
    """

    def __init__(
        self, sweep: Sweep, limits: tuple[float, float], device: torch.device, kept: int = 8
    ) -> None:
        self.device = device
        self._sweep, self._limits, self._kept = sweep, limits, kept
        self._read: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self._sweep.plane_shape
        return height, width

    @property
    def length(self) -> int:
        """Slices that there are."""
        return self._sweep.length

    def __call__(self, index: int) -> Tensor:
        """Return a whole slice, `(3, H, W)` float32."""
        (plane,) = to_device([as_float32(self._raw(index), self._sweep.zero)], self.device)
        return to_unit(plane, self._limits)

    def cut(
        self, indices: Sequence[int], windows: Sequence[Window], size: tuple[int, int]
    ) -> Tensor:
        """Cut windows out of slices.

        Parameters
        ----------
        indices : sequence of int
            Slice of each window.
        windows : sequence of Window
            Windows.
        size : (int, int)
            Rows and columns of the result.

        Returns
        -------
        Tensor
            `(B, 1, h, w)` of grey images, `(B, 3, h, w)` of coloured ones, float32 in 0..1.
        """
        groups: dict[tuple[int, tuple[int, int]], list[int]] = {}
        for i, (index, window) in enumerate(zip(indices, windows, strict=True)):
            groups.setdefault((index, sampling_factor(window, size)), []).append(i)
        bundles = [
            (index, factors, [members[k] for k in together])
            for (index, factors), members in groups.items()
            for together in self._bundles([windows[i] for i in members], size)
        ]
        boxes = [
            sampling_box([windows[i] for i in chosen], self.shape, size) for *_, chosen in bundles
        ]
        parts = [
            as_float32(self._raw(index)[box], self._sweep.zero)
            for (index, *_), box in zip(bundles, boxes, strict=True)
        ]
        order = [i for *_, chosen in bundles for i in chosen]
        where = as_tensor([windows[i] for i in order], self.device)
        found: list[Tensor] = []
        for (_, factors, chosen), box, part in zip(
            bundles, boxes, to_device(parts, self.device), strict=True
        ):
            unit = to_unit(part, self._limits)
            unit = unit[:1] if part.ndim == 2 else unit
            here = where[len(found) : len(found) + len(chosen)]
            origin = (box[0].start, box[1].start)
            found += sample_windows(unit, here, size, factors, origin).unbind()
        places = dict(zip(order, found, strict=True))
        return torch.stack([places[i] for i in range(len(windows))])

    def _bundles(self, windows: list[Window], size: tuple[int, int]) -> list[list[int]]:
        """Decide which windows of a slice are cut together."""
        everything = list(range(len(windows)))
        box = sampling_box(windows, self.shape, size)
        area = (box[0].stop - box[0].start) * (box[1].stop - box[1].start)
        if area <= _SPARSE * sum(w.height * w.width for w in windows):
            return [everything]
        return [[i] for i in everything]

    def _raw(self, index: int) -> npt.NDArray[Any]:
        plane = self._read.pop(index, None)
        if plane is None:
            plane = self._sweep.raw(index)
        self._read[index] = plane
        if len(self._read) > self._kept:
            self._read.popitem(last=False)
        return plane
