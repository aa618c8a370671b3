"""ThreeTierMemory: what is read, what is kept, and what becomes of it (XMem, section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from imos_core import affinity
from imos_core.config import MemoryConfig
from imos_core.memory.long_term import LongTermMemory, consolidate
from imos_core.memory.reading import Readable, ReadBuffers, readable
from imos_core.memory.sensory import SensoryMemory
from imos_core.memory.store import TokenStore
from imos_core.memory.working import WorkingMemory
from imos_core.precision import undiminished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_MOST_SCORES = 2**24
"""Similarities computed at a time (64 MiB), which bounds the memory that a large frame takes."""
_CACHED_SCORES = 2**21
"""The same on a processor (8 MiB), whose cache they should not leave before they are searched."""


class MemorySizes(NamedTuple):
    """Tokens in memory."""

    working: int
    """Tokens in working memory."""
    long_term: int
    """Tokens in long-term memory."""
    working_groups: tuple[int, ...]
    """Tokens in working memory that are valid for each group of objects."""
    long_term_groups: tuple[int, ...]
    """Tokens in long-term memory that are valid for each group of objects."""


class ThreeTierMemory:
    """Sensory, working and long-term memory of one sequence, or of `B` independent ones.

    Sequences of one batch share the number of tokens and the objects' groups; which tokens become
    prototypes or are evicted is decided for each by itself. Tensors stay where they come from.

    Without long-term memory, the oldest frames that are not permanent are forgotten instead of
    consolidated, so that memory is constant in either case.

    Parameters
    ----------
    config : MemoryConfig
        Limits; may be replaced between frames through the attribute `config`.
    keep_reads : bool
        Whether what a read looks at is kept for the next one: faster where memory is long, at the
        price of a second copy of all tokens.
    """

    def __init__(self, config: MemoryConfig | None = None, *, keep_reads: bool = False) -> None:
        self.config = config or MemoryConfig()
        self.sensory = SensoryMemory()
        self.working = WorkingMemory()
        self.long_term = LongTermMemory()
        self._groups: list[tuple[int, ...]] = []
        self._keep_reads, self._buffers = keep_reads, ReadBuffers()

    @property
    def objects(self) -> tuple[int, ...]:
        """Objects in the order of the readout."""
        return tuple(number for group in self._groups for number in group)

    @property
    def sizes(self) -> MemorySizes:
        """Tokens in memory, in all and for each group (of the first sequence)."""
        working, long_term = self.working.tokens, self.long_term.tokens
        return MemorySizes(
            0 if working is None else working.tokens,
            0 if long_term is None else long_term.tokens,
            () if working is None else working.group_tokens,
            () if long_term is None else long_term.group_tokens,
        )

    def read(self, query: Tensor, selection: Tensor | None) -> Tensor:
        """Read what memory says about each position of a frame, and count who was asked.

        Parameters
        ----------
        query : Tensor
            `(B, CK, h, w)` keys of the frame.
        selection : Tensor or None
            `(B, CK, h, w)` weights of its key channels.

        Returns
        -------
        Tensor
            `(B, n, CV, h, w)`, objects in the order of `objects`.

        Raises
        ------
        ValueError
            If nothing was written yet.
        """
        if self.working.tokens is None:
            raise ValueError("The memory is empty: memorise a frame first.")
        stores = [x for x in (self.long_term.tokens, self.working.tokens) if x is not None]
        queries = query.flatten(2).float()
        selections = torch.ones_like(queries) if selection is None else selection.flatten(2).float()
        # differences of squares cancel badly in half precision, also if a caller uses autocast
        with undiminished(query.device):
            mixed, attention = self._ask(stores, affinity.query_factor(queries, selections))
        self._count_read(attention)
        return mixed.reshape(*mixed.shape[:3], *query.shape[-2:])

    def _ask(self, stores: Sequence[TokenStore], asked: Tensor) -> tuple[Tensor, Tensor]:
        """Readout `(B, n, CV, M)` for `asked` `(B, C, M)`, and attention received `(B, N)`.

        A few sequences at a time, or a few positions of one, as scores are large.
        """
        batch, _, positions = asked.shape
        count = sum(store.tokens for store in stores)
        # buffers that are written in place have no gradients
        kept = self._keep_reads and torch.is_inference_mode_enabled()
        tokens = self._buffers.update(stores) if kept else None
        most = min(_MOST_SCORES, _CACHED_SCORES) if asked.device.type == "cpu" else _MOST_SCORES
        rows = max(1, most // (count * positions))
        step = positions if rows > 1 else max(1, most // count)
        found = []
        for first in range(0, batch, rows):
            few = slice(first, first + rows)
            some = readable([s.select(few) for s in stores]) if tokens is None else tokens.rows(few)
            ours = asked[few]
            parts = [
                self._attend(some, ours[..., start : start + step])
                for start in range(0, positions, step)
            ]
            attention = parts[0][1]
            for _, received in parts[1:]:
                attention = attention + received
            found.append((_cat([mixed for mixed, _ in parts], 3), attention))
        return _cat([mixed for mixed, _ in found], 0), _cat([seen for _, seen in found], 0)

    def _attend(self, tokens: Readable, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Do as `_ask`, at once."""
        # tokens are neighbours in storage, which makes a search among them fast
        scores = (asked.transpose(1, 2) @ tokens.factor).transpose(1, 2)  # (B, N, M)
        weights, index = affinity.top_k(scores, self.config.top_k)
        readouts = [affinity.sparse_readout(weights, index, tokens.values[0])]
        received = scores.new_zeros(scores.shape[:2])
        received.scatter_add_(1, index.flatten(1), weights.flatten(1))
        # a late group does not own every token, and sees only its own
        for value, valid in zip(tokens.values[1:], tokens.valid[1:], strict=True):
            own = scores.masked_fill(~valid[:, :, None], float("-inf"))
            weights, index = affinity.top_k(own, self.config.top_k)
            weights = torch.where(valid.any(1)[:, None, None], weights, 0.0)
            readouts.append(affinity.sparse_readout(weights, index, value))
        return _cat(readouts, 1), received

    def _count_read(self, attention: Tensor) -> None:
        """Count a read in which tokens, long-term ones first, received `attention` `(B, N)`."""
        working, long_term = self.working.tokens, self.long_term.tokens
        if working is None or not self.config.long_term:
            return
        self.working.tokens = working.count_read(attention[:, -working.tokens :])
        if long_term is not None and self.config.count_usage:
            self.long_term.tokens = long_term.count_read(attention[:, : long_term.tokens])

    def write(
        self,
        key: Tensor,
        shrinkage: Tensor,
        value: Tensor,
        selection: Tensor | None,
        objects: Sequence[int],
        *,
        permanent: bool = False,
    ) -> None:
        """Store a memory frame; consolidate and evict if a limit is reached.

        Parameters
        ----------
        key : Tensor
            `(B, CK, h, w)`.
        shrinkage : Tensor
            `(B, 1, h, w)`.
        value : Tensor
            `(B, n, CV, h, w)`.
        selection : Tensor or None
            `(B, CK, h, w)`.
        objects : sequence of int
            Numbers of the `n` objects, ascending; those never seen before form a new group.
        permanent : bool
            Whether the frame is an anchor that is never let go; the first frame always is.

        Raises
        ------
        ValueError
            If objects are not ascending or known ones are missing, or if the frame's size changes.
        """
        self._register(objects, value.shape[1])
        position = {number: i for i, number in enumerate(objects)}
        values = [value[:, [position[number] for number in group]] for group in self._groups]
        kept_selection = selection if self.config.long_term else None
        frame = TokenStore.of_frame(key, shrinkage, kept_selection, values)
        self.working.write(frame, permanent=permanent)
        config = self.config
        if not config.long_term:
            if self.working.limited_frames > config.max_working_frames:
                self.working.release(config.max_working_frames)
        elif self.working.limited_frames >= config.max_working_frames:
            # long-term memory is copied now: what repeats it makes room, and is made anew
            self._buffers.clear()
            self.long_term.evict(config.max_long_term_tokens - config.num_prototypes)
            candidates = self.working.release(config.min_working_frames)
            with undiminished(key.device):
                self.long_term.write(consolidate(candidates, config.num_prototypes))

    def _register(self, objects: Sequence[int], channels: int) -> None:
        """Note which objects form a new group."""
        if list(objects) != sorted(set(objects)) or len(objects) != channels:
            raise ValueError("Objects must be ascending numbers, one for each channel of values.")
        known = self.objects
        if not set(known) <= set(objects):
            raise ValueError("A memory frame must have values for all objects seen before.")
        new = tuple(number for number in objects if number not in known)
        if new and known and new[0] < known[-1]:
            raise ValueError("New objects must have higher numbers than those seen before.")
        if new:
            self._groups.append(new)

    def select(self, rows: Tensor) -> None:
        """Keep the sequences `rows` (int64 numbers or bool, along `B`), when others have ended."""
        self.sensory.select(rows)
        self.working.select(rows)
        self.long_term.select(rows)
        self._buffers.clear()

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as tensors and plain values."""
        working, long_term = self.working.tokens, self.long_term.tokens
        return {
            "groups": list(self._groups),
            "sensory": self.sensory.hidden if self.sensory.objects else None,
            "working": None if working is None else working.state(),
            "long_term": None if long_term is None else long_term.state(),
            "frame_tokens": self.working.frame_tokens,
            "permanent_frames": self.working.permanent_frames,
        }

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Remember what `state` said, on a device."""
        self.clear()
        self._groups = [tuple(group) for group in state["groups"]]
        if state["sensory"] is not None:
            self.sensory.update(state["sensory"].to(device))
        if state["working"] is not None:
            self.working.tokens = TokenStore.load(state["working"], device)
        if state["long_term"] is not None:
            self.long_term.tokens = TokenStore.load(state["long_term"], device)
        self.working.frame_tokens = state["frame_tokens"]
        self.working.permanent_frames = state["permanent_frames"]

    def clear(self) -> None:
        """Forget everything."""
        self.sensory.clear()
        self.working.clear()
        self.long_term.clear()
        self._buffers.clear()
        self._groups.clear()


def _cat(parts: Sequence[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), axis)
