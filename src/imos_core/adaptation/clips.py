"""Self-made sequences: painted slices of one image, set in motion and put in a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from imos_core.cutting import sample, window_grid
from imos_core.data.batches import Batch
from imos_core.label_ids import ids_on
from imos_core.preprocess import normalise
from imos_core.walking.thin_prompts import filled
from imos_core.windows import Window, follow, window_around

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    from torch import Tensor

_SEQUENCES = 0.6
"""Share of clips that walk over several slices, where there are any."""
_TO_PAINTED = 0.5
"""Share of those that go as far as the next painted slice, however far that is."""
_LEAST_SEEN = 0.25
"""Share of the object that such a clip shows at least, of what a window around it shows."""
_TRIES = 10
"""Draws of a clip, at most, until it begins with its object."""


@dataclass(frozen=True)
class PaintedClips:
    """Draw clips of one object each, seen through windows as inference sees them.

    A clip rests on one painted slice that moves, turns, swells and bends; or it walks from a
    painted slice towards the next one, its windows following the object as at inference. What is
    not painted on the way has the labels that the untuned network gives from both sides, which are
    surer than what it says of a slice from one side.
    """

    planes: Callable[[int], Tensor]
    """Slice index -> `(3, H, W)` in 0..1."""
    painted: Mapping[int, npt.NDArray[Any]]
    """Slice index -> labels `(H, W)`, as painted."""
    between: Mapping[int, npt.NDArray[Any]]
    """Slice index -> labels `(H, W)`, as the untuned network has them."""
    pixel: tuple[float, float]
    """Size of a pixel along rows and columns."""
    size: int
    """Height and width of a window in network pixels."""
    normalisation: str
    """See `preprocess.normalise`."""
    frames: int = 4
    """Frames of a clip."""
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """The same as `size` by label and painted slice, where it is another (`starts_of`)."""

    def batch(self, count: int, rng: np.random.Generator) -> Batch:
        """Draw `count` clips with windows of one size; fewer of finer ones, but one at least."""
        start = self._start(rng)
        clips, size = [self._draw(start, rng)], self._size(start)
        # finer windows have more samples, and a step is to take no longer
        count = round(count * (self.size / size) ** 2)
        while len(clips) < count:
            start = self._start(rng)
            if self._size(start) == size:
                clips.append(self._draw(start, rng))
        frames, masks, others = (torch.stack(x) for x in zip(*clips, strict=True))
        return Batch(normalise(frames, self.normalisation), masks, others)

    def moving(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw one painted slice in motion: `(T, 3, S, S)` around 0..1, and `(T, S, S)` masks."""
        frames, masks, _ = self._draw(self._start(rng), rng, still=True)
        return frames, masks

    def _draw(
        self, start: tuple[int, int], rng: np.random.Generator, *, still: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        label, first = start
        size = self._size(start)
        order = [first] * self.frames
        if not still and rng.random() < _SEQUENCES:
            order = self._walk(label, first, rng) or order
        # the person may have painted other objects too; what is known of them is shown
        known = rng.random() < 0.75
        begun, warps = self._look(start, rng, calm=order[-1] != first)
        window = begun
        masks: list[Tensor] = []
        frames, others = [], []
        for before, k, warp in zip([first, *order], order, warps, strict=False):
            if k != before:
                window = follow(window, self._mask(k, label), begun, self.pixel)
            plane, labels = self.planes(k), self._labels(k)
            grid = window_grid(window, (size, size), torch.device("cpu"))
            grid = _warped(grid, window, warp).to(plane.device)
            frames.append(sample(plane, grid, border=True))
            seen = _sampled(labels == label, grid)
            masks.append(_as_prompt(seen) if masks else filled(seen, float(seen.sum())))
            rest = (labels != 0) & (labels != label) & known
            others.append((_sampled(rest, grid) > 0.5).float())
        return _stained(torch.stack(frames), rng), torch.stack(masks), torch.stack(others)

    def _look(
        self, start: tuple[int, int], rng: np.random.Generator, *, calm: bool
    ) -> tuple[Window, list[Callable[[Tensor], Tensor]]]:
        """Draw the first window and the motion of all, so that the object is there at first.

        One that the edge of the image cuts lies at the edge of its window, and is easily turned or
        shifted out of it.
        """
        label, first = start
        mask, size = self._mask(first, label), self._size(start)
        around = window_around(mask, self.pixel)
        whole = _sampled(mask, window_grid(around, (size, size), torch.device("cpu"))).sum()
        for _ in range(_TRIES):
            window, warps = _near(around, rng), _motion(self.frames, rng, calm=calm)
            grid = window_grid(window, (size, size), torch.device("cpu"))
            seen = _sampled(mask, _warped(grid, window, warps[0])).sum()
            if seen >= _LEAST_SEEN * whole > 0:
                return window, warps
        return around, [lambda grid: grid] * self.frames

    def _start(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw a label and a slice on which it is painted."""
        anchors = self.anchors
        label = list(anchors)[rng.integers(len(anchors))]
        return label, anchors[label][rng.integers(len(anchors[label]))]

    def _size(self, start: tuple[int, int]) -> int:
        return self.sizes.get(start, self.size)

    @cached_property
    def anchors(self) -> dict[int, list[int]]:
        """Label -> slices on which it is painted, ascending."""
        found: dict[int, list[int]] = {}
        for k in sorted(self.painted):
            for label in ids_on(self.painted[k]):
                found.setdefault(label, []).append(k)
        return found

    def _walk(self, label: int, first: int, rng: np.random.Generator) -> list[int] | None:
        """Slices from a painted one onward, or None where nothing is known on that side."""
        sign = 1 if rng.random() < 0.5 else -1
        others = [k for k in self.anchors[label] if sign * (k - first) > 0]
        goal = min(others, key=lambda k: abs(k - first)) if others else None
        known = [k for k in {*self.between, *self.painted} if sign * (k - first) > 0]
        known = [k for k in known if goal is None or sign * (goal - k) >= 0]
        # a painted slice without the label says nothing: it may just not be painted there
        known = sorted((k for k in known if k not in self.painted or k == goal), reverse=sign < 0)
        if not known:
            return None
        steps = self.frames - 1
        if goal is not None and rng.random() < _TO_PAINTED:
            places = np.linspace(-1, len(known) - 1, steps + 1)[1:].round().astype(int)
        else:
            skip = int(rng.integers(1, 4))
            places = np.minimum(np.arange(1, steps + 1) * skip - 1, len(known) - 1)
        return [first, *(known[max(i, 0)] for i in places)]

    def _labels(self, index: int) -> npt.NDArray[Any]:
        return self.painted[index] if index in self.painted else self.between[index]

    def _mask(self, index: int, label: int) -> npt.NDArray[np.bool_]:
        mask: npt.NDArray[np.bool_] = self._labels(index) == label
        return mask


def _near(window: Window, rng: np.random.Generator) -> Window:
    """Draw a window as inference may have it by the time: off centre, tighter or wider."""
    zoom = float(np.exp(rng.uniform(-0.3, 0.4)))
    shift = rng.uniform(-0.13, 0.13, 2) * zoom
    height, width = window.height * zoom, window.width * zoom
    return Window(
        window.y + float(shift[0]) * height, window.x + float(shift[1]) * width, height, width
    )


def _motion(
    steps: int, rng: np.random.Generator, *, calm: bool
) -> list[Callable[[Tensor], Tensor]]:
    """One warp of window coordinates (x, y in -0.5..0.5) for each frame; all go further with time.

    Several painted slices already differ from each other, hence their clips are set in motion
    calmly.
    """
    speed = float(rng.uniform(0.1, 0.5) if calm else rng.uniform(0.3, 1.0))
    drift = torch.tensor(rng.normal(0, 0.08, 2) * speed, dtype=torch.float32, device="cpu")
    turn, grow = float(rng.normal(0, 0.15)) * speed, float(rng.normal(0, 0.2)) * speed
    bulge, width = float(rng.uniform(-0.6, 0.6)) * speed, float(rng.uniform(0.15, 0.35))
    middle = torch.tensor(rng.normal(0, 0.08, 2), dtype=torch.float32, device="cpu")
    coarse = torch.tensor(rng.normal(0, 1, (2, 2, 5, 5)), dtype=torch.float32, device="cpu")
    amplitude = float(rng.uniform(0.01, 0.05)) * speed
    # seen in every frame: the same pose of the object for ever would be learned by heart
    tilt, mirror = float(rng.normal(0, 0.2)), 1.0 if rng.random() < 0.5 else -1.0

    def make(t: float) -> Callable[[Tensor], Tensor]:
        cos, sin = float(np.cos(tilt + turn * t)), float(np.sin(tilt + turn * t))
        scale = float(np.exp(grow * t))

        def warp(grid: Tensor) -> Tensor:
            x, y = mirror * grid[..., 0], grid[..., 1]
            grid = scale * torch.stack([cos * x - sin * y, sin * x + cos * y], -1) + drift * t
            away = grid - middle
            near = torch.exp(-away.square().sum(-1, keepdim=True) / width**2)
            grid = grid + bulge * t * near * away
            mixed = coarse[0] * t + coarse[1] * (0.5 * float(np.sin(3 * t)))
            field = F.grid_sample(
                mixed[None], 2 * grid[None], mode="bicubic", padding_mode="border",
                align_corners=True,
            )  # fmt: skip
            return grid + amplitude * field[0].permute(1, 2, 0)

        return warp

    return [make(t) for t in np.linspace(0, 1, steps).tolist()]


def _warped(grid: Tensor, window: Window, warp: Callable[[Tensor], Tensor]) -> Tensor:
    """Warp pixel coordinates of a window's samples."""
    sides = grid.new_tensor([window.width, window.height])
    centre = grid.new_tensor([window.x, window.y])
    moved: Tensor = warp((grid - centre) / sides) * sides + centre
    return moved


def _sampled(mask: npt.NDArray[np.bool_], grid: Tensor) -> Tensor:
    plane = torch.from_numpy(mask.astype(np.float32)).to(grid.device)
    return sample(plane[None], grid, border=False)[0]


def _as_prompt(seen: Tensor) -> Tensor:
    """Return samples that an object fills, as a run is prompted; `seen` says how much of each."""
    samples = float(seen.sum())
    # less than half a sample of it is left in the window
    return filled(seen, samples) if samples >= 0.5 else torch.zeros_like(seen)


def _stained(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the looks a little: it is the same image all the time, but not the same slice."""
    steps = len(frames)

    def each(values: npt.NDArray[np.float64]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=frames.device)[:, None, None, None]

    if rng.random() < 0.5:
        frames = frames.clamp(0, 1) ** float(np.exp(rng.normal(0, 0.2)))
    if rng.random() < 0.5:
        frames = frames * each(1 + rng.normal(0, 0.05, steps)) + each(rng.normal(0, 0.02, steps))
    if rng.random() < 0.4:
        seed = torch.Generator().manual_seed(int(rng.integers(2**31)))
        shape = (steps, 1, *frames.shape[-2:])
        noise = torch.randn(shape, generator=seed, dtype=torch.float32, device="cpu")
        noise = noise.to(frames.device)
        frames = frames + noise * (float(frames.std()) * rng.uniform(0.03, 0.2))
    return frames
