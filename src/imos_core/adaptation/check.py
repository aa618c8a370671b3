"""What adapt() is given, what it holds back of it, and how well a network does on that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from imos_core.adaptation.clips import PaintedClips
from imos_core.anchors import plan_legs
from imos_core.errors import PromptError
from imos_core.label_ids import carries, ids_on
from imos_core.metrics import boundary_f, jaccard
from imos_core.preprocess import intensity_window, to_unit
from imos_core.prompt import read_prompts
from imos_core.propagation import pixel_size, propagate, read_spacing
from imos_core.sweep import Sweep
from imos_core.walking.starts import starts_of
from imos_core.walking.transfers import to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt
    import torch
    from torch import Tensor

    from imos_core.model import IMOS
    from imos_core.segmented import Cancel

_MOST_HELD_BACK = 4
_REACH = 24
"""Slices to both sides of a single painted one that are walked for tuning."""
_MOVIES, _MOVIE_FRAMES = 3, 8
_CACHE_BYTES = 512_000_000


@dataclass
class Check:
    """Painted slices, some of them held back, and how a network does on those."""

    sweep: Sweep
    painted: Mapping[int, npt.NDArray[Any]]
    """Slice index -> labels as painted."""
    held_back: tuple[int, ...]
    """Painted slices that are propagated to; empty: self-made sequences serve instead."""
    spacing: tuple[float, float, float] | None
    """Size of a voxel, slice axis first."""
    limits: tuple[float, float]
    """Intensities that become black and white."""
    precision: str | torch.dtype
    seed: int
    clock: Callable[[], float]
    between: dict[int, npt.NDArray[Any]] = field(default_factory=dict)
    """Slice index -> labels that the base gave to slices that are not painted."""
    seconds: float = 0.0
    """How long the latest scoring took."""

    @property
    def kind(self) -> Literal["slices", "clips"]:
        """What is held back."""
        return "slices" if self.held_back else "clips"

    @property
    def count(self) -> int:
        """How much is held back."""
        return len(self.held_back) or _MOVIES

    def clips(self, model: IMOS, *, all_painted: bool, frames: int = 4) -> PaintedClips:
        """Clips to learn from: of the slices that are kept, or of all that are painted."""
        device = next(model.parameters()).device
        most = max(_CACHE_BYTES // (4 * math.prod(self.sweep.plane_shape)), 8)

        @lru_cache(maxsize=most)
        def plane(index: int) -> Tensor:
            (frame,) = to_device([self.sweep.frame(index)], device)
            return to_unit(frame, self.limits)

        painted, pixel = self.painted if all_painted else self._kept, pixel_size(self.spacing, 0)
        clips = PaintedClips(
            plane,
            painted,
            self.between,
            pixel,
            model.config.window(self.sweep.colour),
            model.config.normalisation,
            frames,
        )
        anchors = {label: tuple(where) for label, where in clips.anchors.items()}
        legs = plan_legs(anchors, 0, len(self.sweep), "both")
        starts = starts_of(
            legs, painted, model.config, pixel, colour=self.sweep.colour, divide=False
        )
        sizes = {where: start.samples for where, start in starts.whole.items()}
        return replace(clips, sizes=sizes)

    def score_base(self, model: IMOS, cancel: Cancel, most: float) -> float:
        """Score the untuned network, and keep its labels of the slices on the way.

        A way that takes longer than `most` seconds is thinned out, for the tuned network too.
        """
        started = self.clock()
        walked = self._walk(model, _Deadline(cancel, self.clock, started + most))
        self.between.update((k, v) for k, v in walked.items() if k not in self._kept)
        if not self.held_back:
            return self.score(model, cancel)
        if len(walked) < len(self.route):
            step = -(-len(self.route) // len(walked))
            self.route = sorted({*self.route[::step], *self.painted} & set(self.route))
            return self.score(model, cancel)
        self.seconds = self.clock() - started
        return self._agreement(walked)

    def score(self, model: IMOS, cancel: Cancel) -> float:
        """Mean J&F on what is held back; NaN if cancelled before anything is found."""
        started = self.clock()
        if self.held_back:
            found = self._agreement(self._walk(model, cancel))
        else:
            found = self._movie_score(model, cancel)
        self.seconds = self.clock() - started
        return found

    @cached_property
    def route(self) -> list[int]:
        """Slices that are walked, ascending."""
        ends = set(self.held_back)
        for h in self.held_back:
            for label in ids_on(self.painted[h]):
                kept = sorted(k for k, plane in self._kept.items() if (plane == label).any())
                ends.update([k for k in kept if k < h][-1:] + [k for k in kept if k > h][:1])
        if not ends:
            ends = {min(self.painted) - _REACH, max(self.painted) + _REACH}
        return list(range(max(min(ends), 0), min(max(ends) + 1, len(self.sweep))))

    @property
    def _kept(self) -> dict[int, npt.NDArray[Any]]:
        return {k: v for k, v in self.painted.items() if k not in self.held_back}

    def _walk(self, model: IMOS, cancel: Cancel) -> dict[int, npt.NDArray[Any]]:
        """Labels of the slices of the route, propagated from those that are kept."""
        slices = propagate(
            _Slices(self.sweep, self.route),
            {self.route.index(k): v for k, v in self._kept.items() if k in self.route},
            model=model,
            precision=self.precision,
            contrast=self.limits,
            spacing=self.spacing,
            channels_last=self.sweep.frame(self.route[0]).ndim == 3,
            cancel=cancel,
        )
        return {self.route[item.index]: item.labels for item in slices}

    def _agreement(self, walked: Mapping[int, npt.NDArray[Any]]) -> float:
        """Mean J&F over held-back slices and the labels painted there."""
        known = {label for plane in self._kept.values() for label in ids_on(plane)}
        return _mean(
            _j_and_f(walked[k] == label, self.painted[k] == label)
            for k in self.held_back
            if k in walked
            for label in ids_on(self.painted[k])
            if label in known
        )

    def _movie_score(self, model: IMOS, cancel: Cancel) -> float:
        """Mean J&F on painted slices in motion that nobody learns from."""
        rng = np.random.default_rng([self.seed, 7919])  # tuning draws from other seeds
        clips = self.clips(model, all_painted=True, frames=_MOVIE_FRAMES)
        scores: list[float] = []
        for _ in range(_MOVIES):
            frames, masks = clips.moving(rng)
            truth = masks.cpu().numpy() > 0.5
            shown = frames.clamp(0, 1).cpu().numpy()
            colour = self.sweep.colour
            for item in propagate(
                shown.transpose(0, 2, 3, 1) if colour else shown[:, 0],
                {0: truth[0]},
                model=model,
                precision=self.precision,
                contrast=(0.0, 1.0),
                channels_last=colour,
                cancel=cancel,
            ):
                if item.source != "anchor":
                    scores.append(_j_and_f(item.labels, truth[item.index]))
        return _mean(scores)


def plan_check(
    image: Any,
    prompts: Mapping[Any, npt.ArrayLike],
    *,
    axis: SupportsIndex,
    labels: SupportsIndex | Iterable[SupportsIndex] | None,
    precision: str | torch.dtype,
    contrast: Sequence[float] | npt.NDArray[Any] | None,
    spacing: Sequence[float] | npt.NDArray[Any] | None,
    channels_last: bool,
    seed: int,
    clock: Callable[[], float],
) -> Check:
    """Check what a person gives, as `propagate` does, and choose what is held back.

    Every second painted slice is, at most four of them, as far as its labels are also painted on
    a slice that is kept.

    Raises
    ------
    PromptError, ImageError, FileError
        If something does not fit.
    """
    sweep = Sweep(image, axis, channels_last=channels_last)
    given = read_prompts(prompts, len(sweep), sweep.plane_shape, labels)
    if not given.anchors:
        raise PromptError("No label was chosen: give the ids to learn, or leave labels out.")
    sizes = read_spacing(spacing)
    pixel = pixel_size(sizes, sweep.axis)
    wanted = list(given.anchors)
    painted = {k: np.where(carries(p, wanted), p, 0) for k, p in sorted(given.slices.items())}
    painted = {k: p.astype(given.dtype) for k, p in painted.items() if p.any()}
    every_second = list(painted)[1::2]
    places = np.linspace(0, len(every_second) - 1, min(len(every_second), _MOST_HELD_BACK))
    held_back = tuple(every_second[i] for i in places.round().astype(int).tolist())
    kept = {i for k, p in painted.items() if k not in held_back for i in ids_on(p)}
    held_back = tuple(k for k in held_back if kept.intersection(ids_on(painted[k])))
    return Check(
        sweep,
        painted,
        held_back,
        None if sizes is None else (sizes[sweep.axis], *pixel),
        # as of a run with the same slices, whatever labels are asked for
        intensity_window(sweep, given.slices, contrast, given.slices),
        precision,
        seed,
        clock,
    )


class _Slices:
    """Some slices of a sweep, as an image of its own whose first axis is walked."""

    def __init__(self, sweep: Sweep, indices: list[int]) -> None:
        self._sweep, self._indices = sweep, indices
        self.shape = (len(indices), *sweep.frame(indices[0]).shape)

    def __getitem__(self, where: tuple[Any, ...]) -> npt.NDArray[np.float32]:
        return self._sweep.frame(self._indices[where[0]])


class _Deadline:
    """Says stop when time is up, or somebody else says stop."""

    def __init__(self, other: Cancel, clock: Callable[[], float], end: float) -> None:
        self._other, self._clock, self._end = other, clock, end

    def is_set(self) -> bool:
        return self._other.is_set() or self._clock() > self._end


def _j_and_f(found: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    return float(jaccard(found, truth) + boundary_f(found, truth)) / 2


def _mean(scores: Iterable[float]) -> float:
    values = list(scores)
    return float(np.mean(values)) if values else float("nan")
