"""Endless batches of clips from weighted sources, for `torch.utils.data.DataLoader`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from imos_core.data.clips import Clip, ClipConfig, draw_clip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from imos_core.data.sources import Source


class Batch(NamedTuple):
    """Clips stacked on a first axis."""

    frames: Tensor
    """`(B, T, 3, S, S)`."""
    mask: Tensor
    """`(B, T, S, S)`."""
    others: Tensor
    """`(B, T, S, S)`."""


class ClipBatches(IterableDataset[Batch]):
    """Draw batches for ever; the same seed gives the same batches for one worker.

    Parameters
    ----------
    sources : sequence of (Source, float)
        Sources and how often each is drawn.
    config : ClipConfig
        How clips are cut.
    batch_size : int
        Clips per batch.
    seed : int
        Seed; every worker derives its own.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        config: ClipConfig,
        batch_size: int,
        seed: int,
    ) -> None:
        self._sources = [s for s, _ in sources]
        weights = np.array([w for _, w in sources], float)
        self._weights = weights / weights.sum()
        self._config = config
        self._batch_size = batch_size
        self._seed = seed

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        if info is not None:
            torch.set_num_threads(1)
        rng = np.random.default_rng([self._seed, worker])
        while True:
            clips = [self._draw(rng) for _ in range(self._batch_size)]
            yield Batch(
                torch.stack([c.frames for c in clips]),
                torch.stack([c.mask for c in clips]),
                torch.stack([c.others for c in clips]),
            )

    def _draw(self, rng: np.random.Generator) -> Clip:
        while True:
            source = self._sources[rng.choice(len(self._sources), p=self._weights)]
            clip = draw_clip(source.draw(rng), self._config, rng)
            if clip is not None:
                return clip
