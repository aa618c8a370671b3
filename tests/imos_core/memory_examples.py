"""Small memory frames for the tests of the memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from imos_core.memory import ThreeTierMemory, TokenStore

CK, CV, H, W = 6, 5, 2, 3
HW = H * W


class Frame(NamedTuple):
    """What the network would say of a frame: arguments of `ThreeTierMemory.write`."""

    key: Tensor
    shrinkage: Tensor
    value: Tensor
    selection: Tensor


def frame(seed: int, objects: int = 1, batch: int = 1) -> Frame:
    """Return a random frame."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, H, W, generator=generator)

    return Frame(draw(CK), 1 + draw(1).square(), draw(objects, CV), torch.sigmoid(draw(CK)))


def store(tokens: int, seed: int = 0, groups: int = 1, batch: int = 1) -> TokenStore:
    """Return random tokens; the last group lacks the first half of them."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, tokens, generator=generator)

    valid = [torch.ones(batch, tokens, dtype=torch.bool) for _ in range(groups)]
    values = [draw(2, CV).permute(0, 3, 1, 2).contiguous() for _ in range(groups)]
    if groups > 1:
        valid[-1][:, : tokens // 2] = False
        values[-1] = values[-1] * valid[-1][:, :, None, None]
    return TokenStore(
        key=draw(CK),
        shrinkage=1 + draw(1).square(),
        selection=torch.sigmoid(draw(CK)),
        values=tuple(values),
        valid=tuple(valid),
        use=draw().abs(),
        life=1 + draw().abs(),
    )


def write(memory: ThreeTierMemory, seed: int, objects: int = 1, **keywords) -> Frame:
    """Write a random frame of objects 1 to `objects`; return it."""
    batch = keywords.pop("batch", 1)
    made = frame(seed, objects, batch)
    memory.write(*made, range(1, objects + 1), **keywords)
    return made


def attributes(tokens: TokenStore) -> list[Tensor]:
    """Return every tensor of a store, tokens along the last axis."""
    single = [tokens.key, tokens.shrinkage, tokens.use, tokens.life]
    selection = [] if tokens.selection is None else [tokens.selection]
    return [*single, *selection, *(v.permute(0, 2, 3, 1) for v in tokens.values), *tokens.valid]
