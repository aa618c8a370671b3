"""Memory budget: how many windows at a time, and how much may be held, under a given limit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import torch

from imos_core.errors import PromptError
from imos_core.memory.reading import room_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imos_core.anchors import Leg
    from imos_core.config import MemoryConfig, ModelConfig

_BATCH = {"cpu": 64, "cuda": 256, "mps": 64}
"""Windows at a time unless somebody says otherwise."""
FEW_LEGS = 8
"""Legs up to which memory keeps what its reads look at; of more, that would be much."""
MOST_AHEAD = 8
"""Windows that are encoded together, at most, where that takes slices ahead of their turn."""
_ACTIVATIONS = 8
"""Bytes per pixel of a window and channel at stride 4 that the network needs while it computes.

Measured with the embedded network on a processor: 5.3, of 32 windows.
"""

_COMPUTING = 2**25
"""Bytes that libraries take once a processor computes, of their code and what they prepare.

Measured with the embedded network: 24 MB.
"""
_PLANES = 24
"""Slices beside those that are kept: as tensors and labels, on their way."""
_FEW_PLANES = 16
"""Slices that are kept as they were read, at least: so many a walk with windows ahead looks at."""
_KEPT_BYTES, _KEPT_SHARE = 2**29, 8
"""Bytes that such slices of many walks may take, and their part of a budget, as 1 of so many."""
_ROUNDS = 64
"""How often what is least enough is reckoned anew: it comes closer by half and more each time."""
_MARGIN = 1.02
"""By how much more is asked for: what a process takes differs a little from run to run."""


@dataclass(frozen=True)
class Budget:
    """Memory that a process may take, and what others in it take of that."""

    total: float | str
    """Bytes, or text such as ``"4GB"``."""
    beside: Callable[[int], int]
    """Bytes of so many that are needed beside a propagation, such as to write its results; grows
    by less than what it is given."""


@dataclass(frozen=True)
class Plan:
    """What is held at a time."""

    batch: int
    """Windows that go through the network together."""
    resident: int | None = None
    """Blocks of windows whose memory stays in place; the others wait on disk. None: all."""
    planes: int = _FEW_PLANES
    """Slices that are kept as they were read."""


def plan(
    budget: int | None,
    batch: int | None,
    *,
    config: ModelConfig,
    memory: MemoryConfig,
    legs: Sequence[Leg],
    plane_bytes: int,
    colour: bool,
    side: int,
    device: torch.device,
    beside: Callable[[int], int] = lambda budget: 0,
) -> Plan:
    """Choose what is held at a time.

    Parameters
    ----------
    budget : int or None
        Bytes that the process (on a GPU: the GPU's memory) may take in all.
    batch : int or None
        Windows at a time, if somebody has said so.
    config, memory
        Network and its memory.
    legs : sequence of Leg
        What is to be walked.
    plane_bytes : int
        Bytes of one slice, as stored.
    colour : bool
        Whether the image has colours.
    side : int
        Samples along each side of the finest windows.
    device : torch.device
        Where the network runs.
    beside : callable
        Bytes that are needed beside what is planned here, but for a GPU's, of a budget.

    Raises
    ------
    PromptError
        If the budget cannot suffice.
    """
    most = batch or _BATCH.get(device.type, 64)
    walks = len({(leg.anchor, leg.side) for leg in legs})
    if budget is None:
        return Plan(most, planes=_planes_kept(walks, _KEPT_BYTES, plane_bytes))

    def held(total: int) -> int:
        planes = _PLANES + _planes_kept(walks, total // _KEPT_SHARE, plane_bytes)
        return planes * plane_bytes + beside(total)

    on_gpu = device.type == "cuda"
    state = remembered_bytes(config, memory, legs, side, colour=colour)
    active = side**2 * config.f4_channels * _ACTIVATIONS
    used = torch.cuda.memory_allocated(device) if on_gpu else resident_bytes()
    used += 0 if on_gpu else _COMPUTING
    free = budget - used - (0 if on_gpu else held(budget))
    if free < state + active:
        needed = used + state + active
        least: float = needed
        for _ in range(_ROUNDS if not on_gpu else 0):
            least = needed + held(int(least))  # which takes more of more
        least *= _MARGIN
        given = f"{budget / 1e6:.0f} MB are" if budget >= 1e6 else f"{budget} bytes are"
        raise PromptError(f"{given} not enough here: give at least {least / 1e6 + 1:.0f}MB.")
    planes = _planes_kept(walks, budget // _KEPT_SHARE, plane_bytes)
    everything = state * len(legs)
    if everything + active * min(most, len(legs)) <= free:
        return Plan(most, planes=planes)
    if everything < free / 2:  # smaller steps are enough
        return Plan(max(min(most, int((free - everything) // active)), 1), planes=planes)
    size = max(min(most, int(free / 2 // (state + active))), 1)
    blocks = int((free - size * (state + active)) // (size * state))
    return Plan(size, max(blocks, 0), planes)


def _planes_kept(walks: int, limit: int, plane_bytes: int) -> int:
    """Slices that are kept as they were read: two of each walk, if so many bytes hold them."""
    return max(min(2 * walks + 2 + MOST_AHEAD, limit // max(plane_bytes, 1)), _FEW_PLANES)


def remembered_bytes(
    config: ModelConfig, memory: MemoryConfig, legs: Sequence[Leg], side: int, *, colour: bool
) -> int:
    """Bytes that one leg remembers at most, in windows of `side` samples along each side."""
    tokens = (side // config.memory_stride) ** 2
    anchors = min(max((len(leg.memorised) for leg in legs), default=1), 5) - 1
    frames = memory.max_working_frames + anchors
    longest = max((len(leg.slices) for leg in legs), default=0)
    condensed = memory.max_working_frames - memory.min_working_frames
    added = longest // (memory.memorize_every * condensed) * memory.num_prototypes
    prototypes = min(added, memory.max_long_term_tokens) if memory.long_term else 0
    per_token = config.key_dim + config.value_dim + 4
    in_frame = frames * tokens * (per_token + config.key_dim)
    if len(legs) <= FEW_LEGS:  # what reads look at
        kept = 2 * config.key_dim + 1 + config.value_dim
        in_frame += room_for(frames * tokens + prototypes) * kept
    seen = config.channels(colour) + 3 + config.f4_channels * 7 / 64
    seen += (2 * config.key_dim + 1) / config.memory_stride**2
    # those that memorise as many slices look ahead together
    fewest = min(Counter(len(leg.memorised) for leg in legs).values(), default=1)
    per_pixel = 1 + max(MOST_AHEAD // fewest, 1) * seen  # the mask, and what windows show
    return int(4 * (in_frame + prototypes * per_token + per_pixel * side**2))


def resident_bytes() -> int:
    """Bytes of memory that this process takes now."""
    return int(psutil.Process().memory_info().rss)
