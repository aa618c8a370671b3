"""Working memory: anchors first and for good, the latest frames, nothing else."""

from __future__ import annotations

import pytest
import torch
from memory_examples import HW, frame, store

from imos_core.memory import SensoryMemory, TokenStore, WorkingMemory


def tokens(number: int) -> TokenStore:
    """Tokens of a frame whose keys are all its number."""
    made = frame(number)
    key = torch.full_like(made.key, float(number))
    return TokenStore.of_frame(key, made.shrinkage, made.selection, [made.value])


def frames(store: TokenStore | None) -> list[int]:
    """Numbers of the frames in a store."""
    return [] if store is None else store.key[0, 0, ::HW].int().tolist()


def test_permanent_frames_stand_first_in_order_of_arrival():
    memory = WorkingMemory()
    for number, permanent in ((1, False), (2, False), (3, True), (4, False), (5, True)):
        memory.write(tokens(number), permanent=permanent)
    assert frames(memory.tokens) == [1, 3, 5, 2, 4]
    assert memory.frames == 5
    assert memory.limited_frames == 3


def test_release_leaves_permanent_and_latest_frames():
    memory = WorkingMemory()
    for number in range(1, 8):
        memory.write(tokens(number), permanent=number == 4)
    released = memory.release(3)
    assert frames(released) == [2, 3, 5]
    assert frames(memory.tokens) == [1, 4, 6, 7]


def test_release_can_leave_the_anchors_alone():
    """T_min = 1: the reference takes "-0" for the end of the memory and fails."""
    memory = WorkingMemory()
    for number in range(1, 4):
        memory.write(tokens(number))
    assert frames(memory.release(1)) == [2, 3]
    assert frames(memory.tokens) == [1]


def test_all_frames_have_one_size():
    memory = WorkingMemory()
    memory.write(tokens(1))
    with pytest.raises(ValueError, match="one size"):
        memory.write(store(HW + 1))


def test_sensory_memory_grows_by_empty_states():
    sensory = SensoryMemory()
    with pytest.raises(ValueError, match="empty"):
        sensory.hidden  # noqa: B018
    sensory.grow(torch.zeros(2, 1, 3, 2, 2))
    sensory.update(torch.ones(2, 1, 3, 2, 2))
    sensory.grow(torch.zeros(2, 3, 3, 2, 2))
    assert sensory.objects == 3
    assert sensory.hidden[:, 0].all()
    assert not sensory.hidden[:, 1:].any()
    sensory.select(torch.tensor([True, False]))
    assert sensory.hidden.shape[0] == 1
