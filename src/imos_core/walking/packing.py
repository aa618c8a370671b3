"""Packing: thousands of windows in blocks of bounded size; one that is too large is halved."""

from __future__ import annotations

import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

from imos_core.errors import FileError, OutOfMemoryWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from imos_core.anchors import Contribution, Leg


class Block(Protocol):
    """Legs that are segmented together."""

    def __len__(self) -> int:
        """Legs that are not done."""
        ...

    def segment(self) -> list[Contribution]:
        """Segment the next slice of every leg."""
        ...

    def remember(self, ended: Collection[Leg] = ()) -> None:
        """Memorise, and go on without the legs that have ended."""
        ...

    def snapshot(self) -> Any:
        """Return what `rollback` needs to undo a step."""
        ...

    def rollback(self, snapshot: Any) -> None:
        """Be as when the snapshot was taken."""
        ...

    def split(self) -> list[Any]:
        """Two blocks of half the legs each; one if there is nothing to split."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as tensors and plain values."""
        ...

    def load_state(self, state: Any) -> None:
        """Remember what `state` said."""
        ...

    def unload(self) -> None:
        """Let go of all tensors until `load_state`."""
        ...


B = TypeVar("B", bound=Block)


class Packing(Generic[B]):
    """Blocks of legs that take their steps one after the other.

    What each of them says does not depend on the others: all look at the labels as they were when
    the slice before was merged.

    Parameters
    ----------
    make : callable
        Makes a block of legs.
    groups : sequence of sequence of Leg
        Legs that may be in one block.
    most : int
        Legs of a block, at most.
    resident : int, optional
        Blocks whose memory may stay where it is; that of the others waits on disk between their
        steps. All by default.
    """

    def __init__(
        self,
        make: Callable[[Sequence[Leg]], B],
        groups: Sequence[Sequence[Leg]],
        most: int,
        resident: int | None = None,
    ) -> None:
        self._make, self._most, self._resident = make, most, resident
        self._blocks: list[B] = []
        self._away: dict[int, Path] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        for group in groups:
            self._add(list(group))

    def __len__(self) -> int:
        return sum(len(block) for block in self._blocks)

    def segment(self) -> list[Contribution]:
        """Segment the next slice of every leg."""
        said: list[Contribution] = []
        self._each(lambda block: said.extend(block.segment()))
        return said

    def remember(self, ended: Collection[Leg] = ()) -> None:
        """Memorise, go on without the legs that have ended, and let go of blocks that are done."""
        self._each(lambda block: block.remember(ended))
        self._blocks = [block for block in self._blocks if len(block)]

    @property
    def sizes(self) -> list[int]:
        """Legs of each block."""
        return [len(block) for block in self._blocks]

    def states(self) -> Iterator[dict[str, Any]]:
        """State of every block; those that wait on disk are fetched for it one at a time."""
        for block in self._blocks:
            self._fetch(block)
            yield block.state()
            self._send_away(block)

    def restore(self, blocks: Iterable[B]) -> None:
        """Go on with blocks that know their state; of each, what has to waits on disk at once."""
        for block in blocks:
            self._blocks.append(block)
            self._send_away(block)

    def close(self) -> None:
        """Remove what waits on disk."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _add(self, legs: list[Leg]) -> None:
        """Make blocks; where even making one does not fit, smaller ones."""
        done = 0
        while done < len(legs):
            count = min(self._most, len(legs) - done)
            try:
                block = self._make(legs[done : done + count])
            except torch.OutOfMemoryError:
                if count == 1:
                    raise
                self._halve(count)
                continue
            self._blocks.append(block)
            done += count
            self._send_away(block)

    def _each(self, act: Callable[[B], None]) -> None:
        """Let every block act; what runs out of memory is undone, halved and done again."""
        i = 0
        while i < len(self._blocks):
            block = self._blocks[i]
            if not len(block):
                i += 1
                continue
            self._fetch(block)
            if len(block) > self._most and self._split(i):
                continue
            before = block.snapshot()
            try:
                act(block)
            except torch.OutOfMemoryError:
                block.rollback(before)
                if not self._split(i):
                    raise
                self._halve(len(block))
                continue
            del before  # or it keeps what is sent away
            self._send_away(block)
            i += 1

    def _split(self, i: int) -> bool:
        """Replace a block by two halves, if it has any."""
        parts = self._blocks[i].split()
        self._blocks[i : i + 1] = parts
        return len(parts) > 1

    def _halve(self, count: int) -> None:
        self._most = -(-count // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        warnings.warn(
            f"The device ran out of memory: going on with {self._most} windows at a time.",
            OutOfMemoryWarning,
            stacklevel=2,
        )

    # ---- memory of blocks that waits on disk ----

    def _send_away(self, block: B) -> None:
        if self._resident is None or not len(block):
            return
        here = sum(id(b) not in self._away for b in self._blocks)
        if here <= self._resident:
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="imos-", ignore_cleanup_errors=True)
        path = Path(self._folder.name) / f"{id(block)}.pt"
        try:
            torch.save(block.state(), path)
        except (OSError, RuntimeError) as error:  # torch wraps what the disk says
            raise FileError(
                "The memory of all objects does not fit on the disk: allow more working memory."
            ) from error
        block.unload()
        self._away[id(block)] = path

    def _fetch(self, block: B) -> None:
        path = self._away.pop(id(block), None)
        if path is not None:
            block.load_state(torch.load(path, map_location="cpu", weights_only=True))
            with suppress(OSError):  # it goes with its folder
                path.unlink()
