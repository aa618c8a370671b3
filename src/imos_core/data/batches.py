"""Endless batches of clips from weighted sources, for `torch.utils.data.DataLoader`."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from imos_core.data.clips import Clip, ClipConfig, draw_clip
from imos_core.errors import FileError, ImosError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from imos_core.data.sources import Source

_EMPTY_DRAWS = 10_000
"""Draws without a clip after which there is none; objects that are on few of many slices need
hundreds."""


class Batch(NamedTuple):
    """Clips stacked on a first axis."""

    frames: Tensor
    """`(B, T, 3, S, S)`."""
    mask: Tensor
    """`(B, T, S, S)`."""
    others: Tensor
    """`(B, T, S, S)`."""
    turns: Tensor = torch.zeros(0, dtype=torch.long, device="cpu")
    """`(K,)` entries that show the slice before them again, through a new window, in order."""
    moves: Tensor = torch.zeros(0, 0, 3, dtype=torch.float32, device="cpu")
    """`(B, K, 3)` the new windows in terms of the old: side, row and column of the centre."""

    def moves_by_entry(self) -> dict[int, Tensor]:
        """New windows `(B, 3)` by the number of the entry that shows them."""
        return dict(zip(self.turns.tolist(), self.moves.unbind(1), strict=True))


class ClipBatches(IterableDataset[Batch | ImosError]):
    """Draw batches for ever; batch number `k` of a seed is the same whoever draws it, and when.

    (A source that keeps a pool, as the synthetic one does, remembers what it drew before.)
    A process of a `DataLoader` yields an error instead of raising it, see `sound`.

    Parameters
    ----------
    sources : sequence of (Source, float)
        Sources and how often each is drawn.
    config : ClipConfig
        How clips are cut.
    batch_size : int
        Clips per batch.
    seed : int
        Seed.
    start : int
        Number of the first batch, to go on where another run has stopped.

    Raises
    ------
    FileError
        While drawing, if a file cannot be read, or nothing that is drawn makes a clip.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        config: ClipConfig,
        batch_size: int,
        seed: int,
        start: int = 0,
    ) -> None:
        self._sources = [s for s, _ in sources]
        weights = np.array([w for _, w in sources], float)
        self._weights = weights / weights.sum()
        self._config = config
        self._batch_size = batch_size
        self._seed = seed
        self._start = start

    def __iter__(self) -> Iterator[Batch | ImosError]:
        try:
            yield from self._batches()
        except ImosError as error:
            if get_worker_info() is None:
                raise
            yield error

    def _batches(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        if info is not None:
            torch.set_num_threads(1)
        # batches come from the workers in turn
        for number in count(self._start + worker, workers):
            rng = np.random.default_rng([self._seed, number])
            turns = self._draw_turns(rng)
            clips = [self._draw(rng, turns) for _ in range(self._batch_size)]
            yield Batch(
                torch.stack([c.frames for c in clips]),
                torch.stack([c.mask for c in clips]),
                torch.stack([c.others for c in clips]),
                torch.tensor([frame + k for k, frame in enumerate(turns)], dtype=torch.long),
                torch.stack([c.moves for c in clips]),
            )

    def _draw_turns(self, rng: np.random.Generator) -> list[int]:
        """Draw the frames that are seen through a new window: one for every eight, or none."""
        frames = self._config.frames
        if frames <= 3 or rng.random() >= self._config.turns:
            return []
        return sorted(rng.choice(np.arange(2, frames), max(frames // 8, 1), replace=False).tolist())

    def _draw(self, rng: np.random.Generator, turns: Sequence[int]) -> Clip:
        for _ in range(_EMPTY_DRAWS):
            source = self._sources[rng.choice(len(self._sources), p=self._weights)]
            clip = draw_clip(source.draw(rng), self._config, rng, turns)
            if clip is not None:
                return clip
        names = ", ".join(source.name for source in self._sources)
        raise FileError(
            f"{_EMPTY_DRAWS} draws in a row from {names} made no clip: check that there are "
            "objects, and that they are not tiny."
        )


def sound(batches: Iterable[Batch | ImosError]) -> Iterator[Batch]:
    """Yield the batches of a loader, and raise what has gone wrong in one of its processes.

    Raised there, it would come as PyTorch's traceback of that process, without our sentence alone.

    Raises
    ------
    ImosError
        See `ClipBatches`.
    """
    for batch in batches:
        if isinstance(batch, ImosError):
            raise batch
        yield batch
