"""What a read looks at: all tokens, long-term ones first, ready for the products it takes."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

import torch

from imos_core import affinity
from imos_core.memory.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_BLOCK = 2048
"""Tokens prepared at a time, so that what is prepared passes through a processor's cache."""
_ROOM = 2048
"""Tokens by which buffers grow: memory grows a little at a time."""


class Readable(NamedTuple):
    """All tokens of a memory, as a read needs them."""

    factor: Tensor
    """`(B, 2 * CK + 1, N)` as from `affinity.memory_factor`."""
    values: tuple[Tensor, ...]
    """`(B, N, n, CV)` for each group."""
    valid: tuple[Tensor, ...]
    """`(B, N)` bool for each group."""

    def rows(self, rows: slice) -> Readable:
        """Look at some of the sequences only."""
        return Readable(
            self.factor[rows],
            tuple(value[rows] for value in self.values),
            tuple(valid[rows] for valid in self.valid),
        )


def room_for(tokens: int) -> int:
    """Return for how many tokens `ReadBuffers` have room when they hold so many."""
    return -(-tokens // _ROOM) * _ROOM


def readable(stores: Sequence[TokenStore]) -> Readable:
    """Join stores anew; gradients flow back through it."""
    tokens = TokenStore.concatenate(stores)
    factor = affinity.memory_factor(tokens.key, tokens.shrinkage)
    return Readable(factor, tokens.values, tokens.valid)


class ReadBuffers:
    """Joined stores that are kept from read to read; what has not changed is not copied again.

    Every slice is read, few are written. Buffers have room to spare, so that a memory that grows
    does not ask for slightly larger ones over and over, which would scatter the process's memory.
    They only repeat what the stores say, and may be dropped at any time.
    """

    def __init__(self) -> None:
        self._factor: Tensor | None = None
        self._values: tuple[Tensor, ...] = ()
        self._seen: list[tuple[int, list[weakref.ref[Tensor]]]] = []

    def update(self, stores: Sequence[TokenStore]) -> Readable:
        """Bring the buffers up to date with the stores; without gradients.

        Parameters
        ----------
        stores : sequence of TokenStore
            What is joined. Tensors that a store had at the last update are taken for unchanged.
        """
        groups = max((store.values for store in stores), key=len)
        count = sum(store.tokens for store in stores)
        self._make_room(stores[0].key, groups, count)
        assert self._factor is not None
        start = 0
        same = True
        for i, store in enumerate(stores):
            stop = start + store.tokens
            # what comes before decides where a store stands
            same = same and i < len(self._seen) and self._is_seen(start, store, self._seen[i])
            if not same:
                del self._seen[i:]
                self._copy(store, start)
                self._seen.append((start, [weakref.ref(x) for x in _parts(store)]))
            start = stop
        del self._seen[len(stores) :]
        return Readable(
            self._factor[..., :count],
            tuple(value[:, :count] for value in self._values),
            tuple(_joined_valid(stores, group) for group in range(len(groups))),
        )

    def clear(self) -> None:
        """Let go of the buffers."""
        self._factor, self._values = None, ()
        self._seen.clear()

    def _make_room(self, key: Tensor, groups: Sequence[Tensor], count: int) -> None:
        """Make new buffers if these do not fit."""
        batch, channels = key.shape[0], 2 * key.shape[1] + 1
        factor = self._factor
        if (
            factor is not None
            and factor.shape[2] >= count
            and (factor.shape[:2], factor.device) == ((batch, channels), key.device)
            and [_kind(v) for v in self._values] == [_kind(v) for v in groups]
        ):
            return
        self.clear()
        room = room_for(count)
        self._factor = key.new_empty(batch, channels, room)
        self._values = tuple(v.new_empty(batch, room, *v.shape[2:]) for v in groups)

    def _is_seen(
        self, start: int, store: TokenStore, seen: tuple[int, list[weakref.ref[Tensor]]]
    ) -> bool:
        parts = _parts(store)
        return (
            start == seen[0]
            and len(parts) == len(seen[1])
            and all(ref() is part for ref, part in zip(seen[1], parts, strict=True))
        )

    def _copy(self, store: TokenStore, start: int) -> None:
        assert self._factor is not None
        for first in range(0, store.tokens, _BLOCK):
            part = slice(first, min(first + _BLOCK, store.tokens))
            factor = affinity.memory_factor(store.key[..., part], store.shrinkage[..., part])
            self._factor[..., start + part.start : start + part.stop] = factor
        place = slice(start, start + store.tokens)
        for i, buffer in enumerate(self._values):
            # a store that lacks a group says nothing about it
            buffer[:, place] = store.values[i] if i < len(store.values) else 0


def _parts(store: TokenStore) -> list[Tensor]:
    return [store.key, store.shrinkage, *store.values]


def _kind(value: Tensor) -> tuple[object, ...]:
    return value.shape[0], *value.shape[2:], value.dtype


def _joined_valid(stores: Sequence[TokenStore], group: int) -> Tensor:
    return torch.cat(
        [s.valid[group] if group < len(s.valid) else torch.zeros_like(s.valid[0]) for s in stores],
        1,
    )
