"""Job: everything that the engine needs of the layers, and what a run may write."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import carries
from napari_imos._record.filled import by_anchor
from napari_imos._walk import ids_on

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.arrays.on_grid import Grid
    from napari_imos._record.plan import Span
    from napari_imos._walk import Walk


@dataclass(frozen=True)
class Rules:
    """What a run may write, beyond what the engine knows."""

    locked: tuple[int, ...] = ()
    """Labels that are never changed; they still compete for pixels."""
    only_empty: bool = False
    """Fill only voxels that hold nothing: earlier results stay too."""
    stop_when_gone: bool = False
    """A label that was gone for three slices stays gone."""


@dataclass(frozen=True)
class Job:
    """Everything that the engine needs of the layers."""

    image: Any
    """Array-like with three spatial axes, and colours last where `keywords` says so."""
    prompts: dict[int, npt.NDArray[Any]]
    """Slice -> `(H, W)` labels, copied."""
    ids: tuple[int, ...]
    """Labels that are propagated, and those that earlier runs left and no anchor shows any more."""
    walk: Walk
    """Where the slices lie in the Labels layer."""
    length: int
    """Slices along the walk."""
    keywords: dict[str, Any]
    """Keywords of `imos_core.propagate` that follow from the layers."""

    rules: Rules = Rules()
    """What may be written."""
    spans: tuple[Span, ...] | None = None
    """Ranges of slices to do; None: what the options say."""
    ended: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Slice in none of them -> labels to be taken away from it, as they have ended before."""
    layer: Any = None
    """Labels layer that the walk goes through, for `held`."""
    absent: dict[int, list[int]] = field(default_factory=dict)
    """Label -> prompt slices from which a person erased it, and those where it has ended."""
    through: dict[int, list[int]] = field(default_factory=dict)
    """Label -> prompt slices that say nothing of it, onto which it is filled in."""
    basis: dict[int, npt.NDArray[np.uint32]] = field(default_factory=dict)
    """Label -> what its slices will have been made from."""
    cut_from: tuple[int, ...] = ()
    """Labels that are not written, but make way for those that were cut out of them."""
    covered: range | None = None
    """Slices on which the image has something to show; None: all."""
    elsewhere: bool = False
    """Whether the image has other voxels than the labels."""
    grid: Grid | None = None
    """Where the labels' voxels are in it then, if one grid says it."""
    files: tuple[Path, ...] = ()
    """Where the image is read from on the way: it must not change meanwhile."""

    def held(self, index: int) -> npt.NDArray[Any]:
        """Return what the Labels layer holds on a slice now, `(H, W)`."""
        return np.array(self.layer.data[self.walk.at(index)])

    def merge(
        self,
        held: npt.NDArray[Any],
        ours: npt.NDArray[np.bool_],
        found: npt.NDArray[Any],
    ) -> npt.NDArray[Any]:
        """Return what a slice holds once labels that were found have been written.

        Parameters
        ----------
        held : ndarray
            `(H, W)` labels that the layer holds.
        ours : ndarray
            `(H, W)` whether an earlier run wrote them (`Ledger.ours`); all others stay.
        found : ndarray
            `(H, W)` labels.
        """
        made = self._merged(held, held == 0, ours, found, self.ids)
        if not self.cut_from or self.rules.only_empty:
            return made
        takes = carries(held, self.cut_from) & carries(found, self.ids)
        gives_back = carries(held, self.ids) & carries(found, self.cut_from)
        return np.where(ours & (takes | gives_back), found, made).astype(held.dtype, copy=False)

    def fill(
        self,
        held: npt.NDArray[Any],
        left: npt.NDArray[Any],
        found: npt.NDArray[Any],
        ids: Collection[int],
    ) -> npt.NDArray[Any]:
        """Return what a prompt slice holds once labels that it says nothing of are filled in.

        Parameters
        ----------
        held : ndarray
            `(H, W)` labels that the layer holds.
        left : ndarray
            `(H, W)` what earlier runs have left there; where a person has erased a label, it stays
            away, but others do not.
        found : ndarray
            `(H, W)` labels.
        ids : collection of int
            The labels.
        """
        found = np.where(carries(found, ids), found, 0)
        return self._merged(held, (held == 0) & (left != found), held == left, found, ids)

    def _merged(
        self,
        held: npt.NDArray[Any],
        free: npt.NDArray[np.bool_],
        ours: npt.NDArray[np.bool_],
        found: npt.NDArray[Any],
        ids: Collection[int],
    ) -> npt.NDArray[Any]:
        if not self.rules.only_empty:
            free |= ours & carries(held, ids)
        if locked := self.rules.locked:
            found = np.where(carries(found, locked), 0, found)
        return np.where(free, found, held).astype(held.dtype, copy=False)

    @cached_property
    def filled(self) -> dict[int, list[int]]:
        """Prompt slice -> labels that are filled in."""
        return by_anchor(self.through)

    @cached_property
    def painted(self) -> dict[int, list[int]]:
        """Label -> prompt slices that show it; locked labels too, because they compete."""
        result: dict[int, list[int]] = {}
        wanted = self.keywords.get("labels")
        for k in sorted(self.prompts):
            for label in ids_on(self.prompts[k]):
                if wanted is None or label in wanted:
                    result.setdefault(label, []).append(k)
        return result

    @property
    def main_slice(self) -> int:
        """Slice from which it starts."""
        return next(iter(self.prompts), next(iter(self.ended), 0))

    def leads(self, index: int, main: int, *, ahead: bool) -> bool:
        """Whether a slice is on the side that is shown while it runs."""
        return (index > main) == ahead

    def again(self, index: int) -> bool:
        """Whether the slice is done before, for other labels."""
        return False

    def place(self, index: int) -> tuple[Job, int]:
        """Job of the one walk that a slice is on, and its number there."""
        return self, index

    def ranges(self, options: Mapping[str, Any]) -> tuple[Span, ...]:
        """Ranges of slices that the engine will be asked for."""
        if self.spans is not None:
            return self.spans
        start = options.get("start") or 0
        stop = self.length if options.get("stop") is None else options["stop"]
        if self.covered is not None:
            start, stop = max(start, self.covered.start), min(stop, self.covered.stop)
        return ((start, stop),)

    def expected(self, options: Mapping[str, Any]) -> int:
        """How many different slices the engine will yield with these keywords."""
        direction = options.get("direction", "both")
        first = min(self.prompts) if direction == "forward" else 0
        last = max(self.prompts) + 1 if direction == "backward" else self.length
        # two ranges that meet on an anchor bring it twice
        slices: set[int] = set(self.ended)
        for start, stop in self.ranges(options):
            slices.update(range(max(start, first), min(stop, last)))
            slices.update(k for k in self.prompts if start <= k < stop)
        return len(slices)
