"""Cohort: windows of many objects, walked in step as one batch through network and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from imos_core.anchors import Contribution
from imos_core.memory import ThreeTierMemory
from imos_core.model import Guide, soft_aggregate
from imos_core.model.presence import Looks, evidence, look
from imos_core.preprocess import normalise
from imos_core.windows import (
    Window,
    follow,
    move_features,
    paste,
    sample,
    window_around,
    window_grid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from imos_core.anchors import Leg
    from imos_core.config import MemoryConfig
    from imos_core.model import IMOS, QueryFeatures

    Planes = Callable[[int], Tensor]
    """Slice index -> `(3, H, W)` in 0..1."""
    Labels = Mapping[int, npt.NDArray[np.integer]]
    """Slice index -> labels as far as they are known."""

_MOST_ANCHORS = 5
"""Painted slices that a leg memorises, nearest first."""


@dataclass
class _Row:
    """One window of the batch and what it remembers of the slice before."""

    leg: Leg
    window: Window
    first: Window
    index: int
    mask: Tensor  # (S, S)
    step: int = 0

    @property
    def label(self) -> int:
        return self.leg.label


class WindowCohort:
    """Legs with equally many anchors, segmented together: one window each.

    Parameters
    ----------
    model : IMOS
        Network.
    memory : MemoryConfig
        Configuration of the memory.
    legs : sequence of Leg
        Legs whose labels have the same number of anchors.
    planes : callable
        Slice index -> `(3, H, W)` in 0..1.
    known : mapping
        Slice index -> labels known so far; holds the anchors at the start. Kept, and expected to
        grow as slices are merged.
    spacing : (float, float)
        Size of a pixel along rows and columns.
    thickness : float
        Distance of slices in the same unit; negative: unknown, its size is a guess.
    colour : bool
        Whether the image has colours, whose windows may have another size.
    """

    def __init__(
        self,
        model: IMOS,
        memory: MemoryConfig,
        legs: Sequence[Leg],
        planes: Planes,
        known: Labels,
        spacing: tuple[float, float],
        thickness: float = -1.0,
        *,
        colour: bool = False,
    ) -> None:
        self._model, self._config, self._planes = model, memory, planes
        self._known, self._spacing, self._thickness = known, spacing, thickness
        self._size = (model.config.window(colour),) * 2
        self._several = len({leg.label for leg in legs}) > 1
        self._memory = ThreeTierMemory(memory)
        self._rows: list[_Row] = []
        self._since_memory = 0
        self._frames = torch.empty(0)
        self._features: QueryFeatures | None = None
        self._hidden = torch.empty(0)
        self._prompt: Looks | None = None
        self._before: Looks | None = None
        self._largest = torch.empty(0)
        self._memorise_anchors(legs)

    def __len__(self) -> int:
        return len(self._rows)

    def segment(self) -> list[Contribution]:
        """Segment the next slice of every leg."""
        model = self._model
        indices = [row.leg.slices[row.step] for row in self._rows]
        masks, moved = [], []
        for i, row in enumerate(self._rows):
            window = self._follow(row)
            if window != row.window:
                self._hidden[i] = torch.stack(
                    [move_features(h, row.window, window) for h in self._hidden[i]]
                )
                row.mask = move_features(row.mask[None], row.window, window)[0]
                row.window = window
                moved.append(i)
                self._frames[i] = self._crop(row.index, window)
            masks.append(row.mask)
        frames = torch.stack(
            [self._crop(k, r.window) for k, r in zip(indices, self._rows, strict=True)]
        )
        features = model.encode_query(frames)
        readout = self._memory.read(features.key, features.selection)
        guide = None
        if model.config.guided:
            others = [self._others(r, r.index) for r in self._rows]
            guide = Guide(
                self._frames,
                frames,
                torch.stack(masks)[:, None],
                torch.stack(others)[:, None],
                self._previous_f4(moved),
            )
        remember = self._since_memory + 1 >= self._config.memorize_every
        logits, self._hidden = model.decode(
            features, readout, self._hidden, update_hidden=not remember, guide=guide
        )
        prob = soft_aggregate(torch.sigmoid(logits.float()))[1][:, 1]  # (B, S, S)
        shape = tuple(self._planes(indices[0]).shape[-2:])
        for row, index, p in zip(self._rows, indices, prob, strict=True):
            row.index, row.mask = index, p
        shown = prob
        if model.presence is not None:
            present = torch.sigmoid(model.presence(self._evidence(prob, features)))
            # between two painted slices an object does not end
            open_ended = torch.tensor([not _enclosed(r.leg) for r in self._rows]).to(prob.device)
            ended = (present < 0.5) & open_ended
            # what the network tracks stays; what it shows fades where the object has ended
            shown = prob * torch.where(ended, present, 1.0)[:, None, None]
        contributions = []
        for row, p in zip(self._rows, shown, strict=True):
            box, patch = paste(p[None], row.window, (shape[0], shape[1]))
            contributions.append(Contribution(row.leg, row.index, box, patch[0].cpu().numpy()))
        self._frames, self._features = frames, features
        return contributions

    def remember(self) -> None:
        """Memorise if it is time, and let go of legs that are done."""
        self._since_memory += 1
        alive = [i for i, r in enumerate(self._rows) if r.step + 1 < len(r.leg.slices)]
        if len(alive) < len(self._rows):
            self._select(alive)
        for row in self._rows:
            row.step += 1
        if self._rows and self._since_memory >= self._config.memorize_every:
            self._since_memory = 0
            masks = torch.stack([r.mask for r in self._rows])[:, None]
            others = torch.stack([self._others(r, r.index) for r in self._rows])[:, None]
            self._write(masks, others, permanent=False)

    def _memorise_anchors(self, legs: Sequence[Leg]) -> None:
        """Memorise the painted slices of every leg, the one it starts from last."""
        count = min(len(legs[0].anchors), _MOST_ANCHORS)
        for rank in reversed(range(count)):
            self._rows = []
            for leg in legs:
                index = leg.anchors[rank]
                mask = self._known[index] == leg.label
                window = window_around(mask, self._spacing)
                soft = torch.from_numpy(mask.astype(np.float32)).to(self._planes(index).device)
                grid = window_grid(window, self._size, soft.device)
                crop = (sample(soft[None], grid, border=False)[0] > 0.5).float()
                self._rows.append(_Row(leg, window, window, index, crop))
            self._frames = torch.stack([self._crop(r.index, r.window) for r in self._rows])
            self._features = self._model.encode_query(self._frames)
            self._hidden = self._model.initial_hidden(self._frames, 1)
            masks = torch.stack([r.mask for r in self._rows])[:, None]
            others = torch.stack([self._others(r, r.index) for r in self._rows])[:, None]
            self._write(masks, others, permanent=True)
        if self._model.presence is not None:
            assert self._features is not None
            self._prompt = self._before = self._look(masks[:, 0], self._features)
            self._largest = self._prompt.area

    def _write(self, masks: Tensor, others: Tensor, *, permanent: bool) -> None:
        features = self._features
        assert features is not None
        value, self._hidden = self._model.encode_value(
            self._frames, features.f16, self._hidden, masks, others=others
        )
        self._memory.write(
            features.key, features.shrinkage, value, features.selection, [1], permanent=permanent
        )

    def _evidence(self, prob: Tensor, features: QueryFeatures) -> Tensor:
        """Compare the slice just segmented with the prompt and the slice before: `(B, E)`."""
        assert self._prompt is not None
        assert self._before is not None
        now = self._look(prob, features)
        self._largest = torch.maximum(self._largest, now.area)
        slices = torch.tensor(
            [float(abs(r.index - r.leg.anchor)) for r in self._rows], device=prob.device
        )
        travel = torch.stack([slices, slices * self._thickness], 1)
        pixel = torch.full_like(slices, self._spacing[0] * self._spacing[1])
        found = evidence(now, self._before, self._prompt, self._largest, travel, pixel)
        self._before = now
        return found

    def _look(self, prob: Tensor, features: QueryFeatures) -> Looks:
        size = self._size[0] * self._size[1]
        units = [
            r.window.height * self._spacing[0] * r.window.width * self._spacing[1] / size
            for r in self._rows
        ]
        grey = [
            sample(
                self._planes(r.index).mean(0, keepdim=True),
                window_grid(r.window, self._size, prob.device),
                border=True,
            )[0]
            for r in self._rows
        ]
        unit = torch.tensor(units, dtype=torch.float32, device=prob.device)
        return look(prob, torch.stack(grey), features.f16, unit)

    def _previous_f4(self, moved: list[int]) -> Tensor:
        """Features of the previous slice, encoded again where a window has moved."""
        assert self._features is not None
        f4 = self._features.f4
        if moved:
            f4 = f4.clone()
            f4[moved] = self._model.encode_query(self._frames[moved]).f4
        return f4

    def _select(self, alive: list[int]) -> None:
        self._rows = [self._rows[i] for i in alive]
        index = torch.tensor(alive, dtype=torch.long, device=self._frames.device)
        self._frames, self._hidden = self._frames[index], self._hidden[index]
        if self._features is not None:
            self._features = type(self._features)(*(x[index] for x in self._features))
        if self._prompt is not None and self._before is not None:
            self._prompt, self._before = self._prompt.select(index), self._before.select(index)
            self._largest = self._largest[index]
        self._memory.select(index)

    def _follow(self, row: _Row) -> Window:
        labels = self._known.get(row.index)
        if labels is None:
            return row.window
        return follow(row.window, labels == row.label, row.first, self._spacing)

    def _crop(self, index: int, window: Window) -> Tensor:
        plane = self._planes(index)
        grid = window_grid(window, self._size, plane.device)
        return normalise(sample(plane, grid, border=True), self._model.config.normalisation)

    def _others(self, row: _Row, index: int) -> Tensor:
        """Return other labels of a slice, as far as known, in the row's window: `(S, S)`."""
        labels = self._known.get(index) if self._several else None
        if labels is None:
            return torch.zeros_like(row.mask)
        others = (labels != 0) & (labels != row.label)
        if not others.any():
            return torch.zeros_like(row.mask)
        plane = torch.from_numpy(others.astype(np.float32)).to(row.mask.device)
        grid = window_grid(row.window, self._size, plane.device)
        return sample(plane[None], grid, border=False)[0]


def _enclosed(leg: Leg) -> bool:
    """Whether the label is painted beyond the leg too."""
    last = leg.slices[-1]
    if leg.side == "forward":
        return max(leg.anchors) > last
    return min(leg.anchors) < last
