"""TokenStore: a list of memory tokens in which every attribute has the same number of tokens.

Letters: ``B`` independent sequences, ``n`` objects of a group, ``N`` tokens, ``CK`` key and ``CV``
value channels. Objects that were first given in the same frame form a group.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NEWBORN = 1e-7  # life of a token that was never offered to a read: its use / life is 0, not NaN


@dataclass(frozen=True)
class TokenStore:
    """Tokens of a memory, oldest first; every operation returns a new store.

    A group that joined late has no values for older tokens. They are zero there, and `valid` says
    so token by token, so that keys and values can never come out of step.

    Raises
    ------
    ValueError
        If the attributes differ in their number of tokens.
    """

    key: Tensor
    """`(B, CK, N)` float32."""
    shrinkage: Tensor
    """`(B, 1, N)` float32, at least 1."""
    selection: Tensor | None
    """`(B, CK, N)` float32, or None where it will not be needed again."""
    values: tuple[Tensor, ...]
    """`(B, N, n, CV)` for each group, in order of appearance."""
    valid: tuple[Tensor, ...]
    """`(B, N)` bool for each group: whether the token says anything about it."""
    use: Tensor
    """`(B, N)` float32: attention received since the token was stored."""
    life: Tensor
    """`(B, N)` float32: reads since the token was stored."""

    def __post_init__(self) -> None:
        attributes = [self.key, self.shrinkage, self.use, self.life, *self.valid]
        if self.selection is not None:
            attributes.append(self.selection)
        counts = {(x.shape[0], x.shape[-1]) for x in attributes}
        counts |= {(x.shape[0], x.shape[1]) for x in self.values}
        if len(counts) != 1 or len(self.values) != len(self.valid):
            raise ValueError(f"All attributes of a token need the same count, got {counts}.")

    # ---- making ----

    @classmethod
    def of_frame(
        cls,
        key: Tensor,
        shrinkage: Tensor,
        selection: Tensor | None,
        values: Sequence[Tensor],
    ) -> TokenStore:
        """Make the tokens of one memory frame, which all its groups own.

        Parameters
        ----------
        key : Tensor
            `(B, CK, h, w)`.
        shrinkage : Tensor
            `(B, 1, h, w)`.
        selection : Tensor or None
            `(B, CK, h, w)`.
        values : sequence of Tensor
            `(B, n, CV, h, w)` of each group.
        """
        flat = key.flatten(2).float()  # (B, CK, h * w)
        counters = flat.new_zeros(flat.shape[0], flat.shape[2])
        return cls(
            key=flat,
            shrinkage=shrinkage.flatten(2).float(),
            selection=None if selection is None else selection.flatten(2).float(),
            values=tuple(value.flatten(3).permute(0, 3, 1, 2).contiguous() for value in values),
            valid=tuple(torch.ones_like(counters, dtype=torch.bool) for _ in values),
            use=counters,
            life=torch.full_like(counters, _NEWBORN),
        )

    @classmethod
    def concatenate(cls, stores: Sequence[TokenStore]) -> TokenStore:
        """Join stores along the token axis; a group that a store lacks is not valid there."""
        if len(stores) == 1:
            return stores[0]
        groups = max((store.values for store in stores), key=len)
        padded = [store._with_groups(groups) for store in stores]
        selections = [store.selection for store in padded if store.selection is not None]
        return cls(
            key=torch.cat([store.key for store in padded], 2),
            shrinkage=torch.cat([store.shrinkage for store in padded], 2),
            selection=torch.cat(selections, 2) if len(selections) == len(padded) else None,
            values=tuple(
                torch.cat(parts, 1) for parts in zip(*(s.values for s in padded), strict=True)
            ),
            valid=tuple(
                torch.cat(parts, 1) for parts in zip(*(s.valid for s in padded), strict=True)
            ),
            use=torch.cat([store.use for store in padded], 1),
            life=torch.cat([store.life for store in padded], 1),
        )

    def _with_groups(self, groups: Sequence[Tensor]) -> TokenStore:
        """Add those of `groups` that this store lacks, as not valid."""
        missing = groups[len(self.values) :]
        if not missing:
            return self
        return replace(
            self,
            values=self.values
            + tuple(v.new_zeros(v.shape[0], self.tokens, *v.shape[2:]) for v in missing),
            valid=self.valid + tuple(torch.zeros_like(self.valid[0]) for _ in missing),
        )

    # ---- leaving and coming back ----

    def state(self) -> dict[str, Any]:
        """Tensors by name, as `load` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def load(cls, state: Mapping[str, Any], device: torch.device) -> TokenStore:
        """Make a store from its `state`, on a device."""

        def moved(value: Any) -> Any:
            if isinstance(value, tuple | list):
                return tuple(moved(v) for v in value)
            return None if value is None else value.to(device)

        return cls(**{name: moved(value) for name, value in state.items()})

    # ---- asking ----

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.key.shape[2]

    @property
    def group_tokens(self) -> tuple[int, ...]:
        """Number of tokens that are valid for each group (in the first sequence)."""
        return tuple(int(valid[0].sum()) for valid in self.valid)

    @property
    def usage(self) -> Tensor:
        """Mean attention per read, `(B, N)`."""
        return self.use / self.life

    # ---- changing ----

    def span(self, start: int, stop: int | None) -> TokenStore:
        """Return tokens `start` to `stop` (None: to the end)."""
        tokens = slice(start, stop)
        return self._mapped(lambda field, axis: field[(slice(None),) * axis + (tokens,)])

    def without(self, start: int, stop: int) -> TokenStore:
        """Return all tokens but `start` to `stop`."""
        parts = [self.span(0, start), self.span(stop, self.tokens)]
        return TokenStore.concatenate([part for part in parts if part.tokens] or parts[:1])

    def take(self, index: Tensor) -> TokenStore:
        """Return the tokens `index` `(B, K)`, chosen for each sequence by itself."""

        def chosen(field: Tensor, axis: int) -> Tensor:
            where = index[:, None] if axis == 2 else index[(..., *[None] * (field.ndim - 2))]
            shape = list(field.shape)
            shape[axis] = index.shape[1]
            return field.gather(axis, where.expand(shape))

        return self._mapped(chosen)

    def count_read(self, attention: Tensor) -> TokenStore:
        """Add one read, in which the tokens received `attention` `(B, N)`."""
        return replace(self, use=self.use + attention, life=self.life + 1)

    def newborn(self) -> TokenStore:
        """Forget all reads."""
        return replace(
            self, use=torch.zeros_like(self.use), life=torch.full_like(self.life, _NEWBORN)
        )

    def select(self, rows: Tensor | slice) -> TokenStore:
        """Keep the sequences `rows` (int64 numbers, bool or a slice, along `B`)."""
        return self._mapped(lambda field, _: field[rows])

    def _mapped(self, change: Callable[[Tensor, int], Tensor]) -> TokenStore:
        """Change every tensor in the same way; `change` is told which axis its tokens lie along."""
        return TokenStore(
            key=change(self.key, 2),
            shrinkage=change(self.shrinkage, 2),
            selection=None if self.selection is None else change(self.selection, 2),
            values=tuple(change(value, 1) for value in self.values),
            valid=tuple(change(valid, 1) for valid in self.valid),
            use=change(self.use, 1),
            life=change(self.life, 1),
        )
