"""Long-term memory: few prototypes of what working memory has let go (XMem, section 3.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from imos_core import affinity
from imos_core.memory.store import TokenStore

if TYPE_CHECKING:
    from torch import Tensor


def select_prototypes(usage: Tensor, count: int) -> Tensor:
    """Choose the most used candidates.

    Parameters
    ----------
    usage : Tensor
        `(B, N)` use divided by life.
    count : int
        Prototypes wanted [P]; all candidates if there are fewer.

    Returns
    -------
    Tensor
        `(B, min(count, N))` int64, most used first.
    """
    return usage.topk(min(count, usage.shape[1]), dim=1).indices


def potentiate(
    key: Tensor,
    shrinkage: Tensor,
    prototype_key: Tensor,
    prototype_selection: Tensor | None,
    valid: Tensor | None = None,
) -> Tensor:
    """Weights with which candidates flow into prototypes (XMem, equation 6).

    Parameters
    ----------
    key : Tensor
        `(B, CK, N)` of the candidates.
    shrinkage : Tensor
        `(B, 1, N)` of the candidates.
    prototype_key : Tensor
        `(B, CK, P)`.
    prototype_selection : Tensor or None
        `(B, CK, P)`.
    valid : Tensor, optional
        `(B, N)` bool, candidates that take part; by default all.

    Returns
    -------
    Tensor
        `(B, N, P)`, columns sum to 1 (to 0 where no candidate takes part).
    """
    scores = affinity.similarity(key, shrinkage, prototype_key, prototype_selection)
    if valid is None:
        return torch.softmax(scores, dim=1)
    weights = torch.softmax(scores.masked_fill(~valid[:, :, None], float("-inf")), dim=1)
    return torch.where(valid.any(1)[:, None, None], weights, 0.0)


def consolidate(candidates: TokenStore, count: int) -> TokenStore:
    """Condense candidates into prototypes.

    Keys are those of the most used candidates; values and shrinkage are means over all
    candidates, weighted by similarity to the prototype.

    Parameters
    ----------
    candidates : TokenStore
        Tokens that working memory released.
    count : int
        Prototypes wanted [P].

    Returns
    -------
    TokenStore
        Prototypes without selection, their usage counted anew. One that stems from a token older
        than a group is not valid for it, unless that would leave the group with nothing.
    """
    index = select_prototypes(candidates.usage, count)
    chosen = candidates.take(index)
    query = (chosen.key, chosen.selection)
    everything = potentiate(candidates.key, candidates.shrinkage, *query)  # (B, N, P)
    values = []
    validity = []
    for group, (value, valid) in enumerate(zip(candidates.values, candidates.valid, strict=True)):
        weights, fitting = everything, chosen.valid[group]
        if group > 0:  # the first group owns every token
            weights = potentiate(candidates.key, candidates.shrinkage, *query, valid)
            none_fits = ~fitting.any(1, keepdim=True)
            fitting = torch.where(none_fits, valid.any(1, keepdim=True), fitting)
        mixed = affinity.readout(weights.to(value.dtype), value.permute(0, 2, 3, 1))
        values.append((mixed * fitting[:, None, None]).permute(0, 3, 1, 2).contiguous())
        validity.append(fitting)
    return replace(
        chosen.newborn(),
        selection=None,
        shrinkage=candidates.shrinkage @ everything,
        values=tuple(values),
        valid=tuple(validity),
    )


def survivors(usage: Tensor, count: int) -> Tensor:
    """Choose the tokens that outlive an eviction: the most used, of equals the newest.

    Parameters
    ----------
    usage : Tensor
        `(B, N)` use divided by life.
    count : int
        Tokens that stay.

    Returns
    -------
    Tensor
        `(B, min(count, N))` int64, in the order of the memory.
    """
    newest_first = usage.flip(1).argsort(dim=1, descending=True, stable=True)
    return (usage.shape[1] - 1 - newest_first[:, :count]).sort(dim=1).values


class LongTermMemory:
    """Prototypes, oldest first, and never more than asked for."""

    def __init__(self) -> None:
        self.tokens: TokenStore | None = None

    def write(self, prototypes: TokenStore) -> None:
        """Append prototypes."""
        known = [] if self.tokens is None else [self.tokens]
        self.tokens = TokenStore.concatenate([*known, prototypes])

    def evict(self, count: int) -> None:
        """Forget the least used prototypes of each sequence until `count` are left."""
        if self.tokens is not None and self.tokens.tokens > count:
            self.tokens = self.tokens.take(survivors(self.tokens.usage, count))

    def select(self, rows: Tensor) -> None:
        """Keep the sequences `rows` (int64 numbers or bool, along `B`)."""
        if self.tokens is not None:
            self.tokens = self.tokens.select(rows)

    def clear(self) -> None:
        """Forget everything."""
        self.tokens = None
