"""Volumes of a series as arrays: the engine is run on them, and labels are filled in."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.painted import fill
from imos_core.formats.volume import in_time
from imos_core.label_ids import carries
from imos_core.prompt import ends_of_painted, joined_ends
from imos_core.series.steps import walk_series
from imos_core.through import through_unshown
from imos_core.walking.patience import patience_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping, Sequence

    import numpy.typing as npt

    from imos_core.segmented import Cancel, SegmentedSlice
    from imos_core.series.plan import SeriesPlan
    from imos_core.series.steps import Found

    Absent = Mapping[int, Sequence[int]]
    """Label -> prompt slices from which a person erased it."""


@dataclass(frozen=True)
class SeriesImages:
    """Where the pixels of a series come from."""

    at: Callable[[int], Any]
    """Step -> its volume, three spatial axes, and colours last where the options say so."""
    across: Callable[[int], Any]
    """Slice -> the image of that slice over all steps, likewise."""
    axis: int
    """Axis of a volume that is walked."""
    through: int
    """Axis of time in a slice over all steps."""
    spacing: tuple[float, ...] | None = None
    """Size of a voxel of a volume."""


@dataclass(frozen=True)
class SeriesRules:
    """What else is to be heeded."""

    within: tuple[int, int] | None = None
    """Range of slices that are asked for; None: all."""
    absent: Mapping[int, Absent] = field(default_factory=dict)
    """Step -> what a person erased there."""
    through: Mapping[int, Absent] = field(default_factory=dict)
    """Step -> label -> painted slices that say nothing of it, onto which it is filled in."""
    stop_when_gone: bool = False
    """Whether labels that were gone for a while stay gone."""


def fill_series(
    result: npt.NDArray[Any],
    images: SeriesImages,
    plan: SeriesPlan,
    options: Mapping[str, Any],
    rules: SeriesRules | None = None,
    cancel: Cancel | None = None,
) -> Generator[Found, None, None]:
    """Propagate a series into an array of labels; yield each slice when it is written.

    Painted slices stay as they are, but for labels that go through them by `rules`, and so do
    pixels that hold labels which are not followed.

    Parameters
    ----------
    result : ndarray
        `(T, K, H, W)`: steps, walked slices, planes; holds what is painted.
    images : SeriesImages
        Pixels.
    plan : SeriesPlan
        What is done.
    options : mapping
        Keywords of `imos_core.propagate` that follow neither from `images` nor from `plan`.
    rules : SeriesRules, optional
        What else is to be heeded.
    cancel : Cancel, optional
        Stops it.

    Raises
    ------
    ImosError
        If something does not serve, or fails.
    """
    loaded = with_model(options) if any(not step.taken for step in plan.steps) else dict(options)
    volumes = _ArrayVolumes(result, images, plan, loaded, rules or SeriesRules(), cancel)
    with closing(walk_series(plan.steps, volumes, cancel)) as slices:
        for found in slices:
            t, k = found.step, found.slice.index
            result[t, k] = volumes.merged(found.number, k, found.slice.labels)
            yield found


class _ArrayVolumes:
    """What `imos_core.series.steps.Volumes` asks for."""

    def __init__(
        self,
        result: npt.NDArray[Any],
        images: SeriesImages,
        plan: SeriesPlan,
        options: Mapping[str, Any],
        rules: SeriesRules,
        cancel: Cancel | None,
    ) -> None:
        self._result, self._images, self._plan, self._rules = result, images, plan, rules
        self._options = {**options, "direction": "both"}
        self._cancel = cancel
        self.length = result.shape[1]
        start, stop = rules.within or (0, self.length)
        self._span = range(start, stop)

    def painted(self, step: int) -> Mapping[int, npt.NDArray[Any]]:
        return self._plan.prompts[step]

    def absent(self, step: int) -> Absent:
        return self._rules.absent.get(step, {})

    def current(self, step: int, index: int) -> npt.NDArray[Any]:
        return np.array(self._result[step, index])

    def wanted(self, step: int) -> range:
        return self._span

    def walk(
        self,
        step: int,
        prompts: Mapping[int, npt.NDArray[Any]],
        labels: Collection[int],
        *,
        away: int = 0,
        within: tuple[int, int] | None = None,
    ) -> Generator[SegmentedSlice, None, None]:
        import imos_core

        ids = sorted(labels)
        ends = joined_ends(self.absent(step), self._options.get("ends"))
        ends = ends_of_painted(ends, prompts)
        start, stop = within or (self._span.start, self._span.stop)
        slices: Any = imos_core.propagate(
            self._images.at(step),
            dict(prompts),
            axis=self._images.axis,
            labels=ids,
            start=start,
            stop=stop,
            spacing=self._images.spacing,
            cancel=self._cancel,
            through=through_unshown(self._rules.through.get(step, {}), prompts) or None,
            **{**patience_of(self._rules.stop_when_gone), **self._options, "ends": ends},
        )
        with closing(slices):
            yield from slices

    def across(self, index: int) -> tuple[Any, Mapping[str, Any]]:
        images = self._images
        keywords = {**self._options, "axis": images.through, "spacing": self._in_time()}
        keywords.pop("ends", None)  # slices where a label has ended are no time points
        return images.across(index), keywords

    def merged(self, number: int, index: int, found: npt.NDArray[Any]) -> npt.NDArray[Any]:
        step = self._plan.steps[number]
        plane = self.current(step.index, index)
        labels: Collection[int] = step.labels
        if index in self._plan.prompts[step.index]:
            # a person's slice: what it says nothing of, and nothing that was carried there
            goes = self._rules.through.get(step.index, {})
            labels = {i for i in step.labels if index in goes.get(i, ())}
            found = np.where(carries(found, labels), found, 0)
        # where that is empty or followed
        fill(plane, found, labels)
        return plane

    def _in_time(self) -> tuple[float, ...] | None:
        """Return the shape of pixels of a slice through time, which is no length."""
        if self._images.spacing is None:
            return None
        sizes = [s for a, s in enumerate(self._images.spacing) if a != self._images.axis]
        sizes.insert(self._images.through, 1.0)
        return in_time(sizes, self._images.through)


def with_model(options: Mapping[str, Any]) -> dict[str, Any]:
    """Load model and adapter that `imos_core.propagate` is told: once for all of several calls."""
    from imos_core.weights import network_for  # brings torch, which menus do without

    options = dict(options)
    name, adapter = options.get("model", "imos-compact"), options.pop("adapter", None)
    device = options.get("device", "auto")
    options["model"] = network_for(name, adapter=adapter, device=device)
    return options
