"""ThreeTierMemory: constant size, permanent anchors, aligned groups, independent sequences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_examples import CK, CV, HW, H, W, attributes, frame, write

from imos_core.config import MemoryConfig
from imos_core.memory import ThreeTierMemory, three_tier

SMALL = MemoryConfig(1, 2, 4, num_prototypes=4, max_long_term_tokens=10, top_k=5)

CONFIGS = st.builds(
    lambda least, more, prototypes, room, long_term, counts: MemoryConfig(
        1, least, least + more, prototypes, prototypes + room, 5, long_term, counts
    ),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 30),
    st.integers(1, 30),
    st.booleans(),
    st.booleans(),
)
EVENTS = st.lists(
    st.sampled_from(["write", "write", "write", "read", "anchor", "new object"]), max_size=25
)


def read(memory: ThreeTierMemory, seed: int, batch: int = 1) -> torch.Tensor:
    query = frame(seed, batch=batch)
    return memory.read(query.key, query.selection)


def stores(memory: ThreeTierMemory) -> list:
    return [s for s in (memory.working.tokens, memory.long_term.tokens) if s is not None]


@given(CONFIGS, EVENTS)
@settings(max_examples=60, deadline=None)
def test_invariants(config, events):
    """Counts agree, memory is bounded, anchors stay and every object can be read."""
    memory = ThreeTierMemory(config)
    anchors = [write(memory, 0).key]
    objects = 1
    for seed, event in enumerate(events, 1):
        if event == "read":
            readout = read(memory, seed)
            assert readout.shape == (1, objects, CV, H, W)
            assert readout.isfinite().all()
            assert readout.flatten(2).any(2).all()
            continue
        objects += event == "new object"
        key = write(memory, seed, objects, permanent=event == "anchor").key
        if event == "anchor":
            anchors.append(key)
        for tokens in stores(memory):
            assert {x.shape[-1] for x in attributes(tokens)} == {tokens.tokens}
        kept = memory.working.tokens.key[..., : len(anchors) * HW]
        assert torch.equal(kept, torch.cat([a.flatten(2) for a in anchors], 2))
        sizes = memory.sizes
        assert sizes.working <= (config.max_working_frames + len(anchors) - 1) * HW
        assert sizes.long_term <= config.max_long_term_tokens
        assert memory.objects == tuple(range(1, objects + 1))


@pytest.mark.parametrize("long_term", [True, False])
def test_memory_is_constant_however_long_the_sequence(long_term):
    memory = ThreeTierMemory(replace(SMALL, long_term=long_term))
    sizes = set()
    for t in range(200):
        read(memory, t) if t else None
        write(memory, t)
        if t >= 50:
            sizes.add(memory.sizes[:2])
    expected = {(24 - HW, 10), (24 - 2 * HW, 10)} if long_term else {(24, 0)}
    assert sizes == expected


def test_limits_are_reached_as_described():
    memory = ThreeTierMemory(SMALL)
    sizes = []
    for t in range(8):
        write(memory, t)
        sizes.append(memory.sizes[:2])
    assert sizes == [(6, 0), (12, 0), (18, 0), (12, 4), (18, 4), (12, 8), (18, 8), (12, 10)]


def test_more_anchors_leave_room_for_recent_frames():
    plain, anchored = ThreeTierMemory(SMALL), ThreeTierMemory(SMALL)
    write(plain, 0)
    for t in (0, 100, 101, 102, 103, 104):
        write(anchored, t, permanent=True)
    assert anchored.sizes.long_term == 0
    for t in range(1, 20):
        write(plain, t)
        write(anchored, t)
    assert anchored.sizes.working == plain.sizes.working + 5 * HW
    assert anchored.sizes.long_term == plain.sizes.long_term > 0


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_reading_does_not_depend_on_token_order(seed):
    memory = ThreeTierMemory(SMALL)
    for t in range(6):
        write(memory, t, 1 if t < 4 else 2)
    assert memory.long_term.tokens is not None
    expected = read(memory, 99)
    generator = torch.Generator().manual_seed(seed)
    for part in (memory.working, memory.long_term):
        part.tokens = part.tokens.take(
            torch.randperm(part.tokens.tokens, generator=generator)[None]
        )
    torch.testing.assert_close(read(memory, 99), expected)


def test_a_late_object_reads_its_values_through_the_keys_of_their_frames():
    """The reference pairs the late object's first value with the key of the first frame."""
    memory = ThreeTierMemory(replace(SMALL, top_k=1))
    key_of = [frame(seed).key for seed in range(5)]

    def number(t: int, objects: int) -> None:
        """Write a frame whose values are its number, for every object."""
        made = frame(t)
        value = torch.full((1, objects, CV, H, W), float(t))
        memory.write(key_of[t], made.shrinkage, value, made.selection, range(1, objects + 1))

    for t in range(5):
        number(t, 1 if t < 2 else 2)
    assert memory.long_term.tokens is not None, "a consolidation took place"
    sure = torch.ones(1, CK, H, W)
    newest = memory.read(key_of[4], sure)
    assert newest[0, :, 0].unique().tolist() == [4.0]
    oldest = memory.read(key_of[0], sure)[0, :, 0]
    assert oldest[0].unique().tolist() == [0.0]
    assert oldest[1].min() >= 2.0, "the late object knows nothing of frame 0"
    assert memory.sizes.working_groups == (3 * HW, 2 * HW)
    late = memory.long_term.tokens
    values = late.values[1][0, :, 0, 0][late.valid[1][0]]
    assert (values >= 2.0 - 1e-5).all()


def test_late_groups_survive_evictions():
    """The reference cannot evict when a second group has long-term tokens."""
    memory = ThreeTierMemory(SMALL)
    for t in range(40):
        write(memory, t, 1 if t < 3 else 3)
        read(memory, t)
    assert memory.sizes.long_term == 10
    assert memory.sizes.long_term_groups[1] > 0


def test_a_group_that_lost_all_its_tokens_reads_nothing():
    memory = ThreeTierMemory(SMALL)
    write(memory, 0)
    write(memory, 1, 2)
    tokens = memory.working.tokens
    nothing = torch.zeros_like(tokens.valid[1])
    memory.working.tokens = replace(tokens, valid=(tokens.valid[0], nothing))
    readout = read(memory, 2)
    assert readout[:, 0].any()
    assert not readout[:, 1].any()


def test_a_large_frame_is_read_in_parts(monkeypatch):
    whole, parts = ThreeTierMemory(SMALL), ThreeTierMemory(SMALL)
    for t in range(6):
        for memory in (whole, parts):
            write(memory, t, 1 if t < 4 else 2)
    expected = read(whole, 99)
    monkeypatch.setattr(three_tier, "_MOST_SCORES", 4 * parts.working.tokens.tokens)
    torch.testing.assert_close(read(parts, 99), expected)
    for ours, theirs in zip(stores(parts), stores(whole), strict=True):
        torch.testing.assert_close(ours.use, theirs.use)
        assert torch.equal(ours.life, theirs.life)


def test_attention_is_credited_to_the_tokens_that_were_read():
    memory = ThreeTierMemory(replace(SMALL, top_k=1))
    for t in range(5):
        write(memory, t)
    assert memory.long_term.tokens is not None, "a consolidation took place"
    memory.read(frame(4).key, torch.ones(1, CK, H, W))
    newest = torch.cat([torch.zeros(2 * HW), torch.ones(HW)])
    torch.testing.assert_close(memory.working.tokens.use[0] - newest, torch.zeros(3 * HW))
    assert not memory.long_term.tokens.use.any()


def test_only_the_first_group_is_counted():
    memory = ThreeTierMemory(SMALL)
    write(memory, 0)
    write(memory, 1, 2)
    read(memory, 2)
    torch.testing.assert_close(memory.working.tokens.use.sum(), torch.tensor(float(HW)))
    torch.testing.assert_close(memory.working.tokens.life, torch.full((1, 2 * HW), 1.0))


@pytest.mark.parametrize("counts", [True, False])
def test_reads_of_long_term_memory_are_counted_on_request(counts):
    memory = ThreeTierMemory(replace(SMALL, count_usage=counts))
    for t in range(20):
        write(memory, t)
        read(memory, t)
    assert bool(memory.long_term.tokens.usage.any()) is counts
    assert memory.sizes.long_term == 10


def test_sequences_of_a_batch_are_independent():
    together = ThreeTierMemory(SMALL)
    alone = [ThreeTierMemory(SMALL) for _ in range(3)]
    for t in range(12):
        made = write(together, t, batch=3)
        query = frame(t + 100, batch=3)
        mixed = together.read(query.key, query.selection)
        for row, memory in enumerate(alone):
            memory.write(*(x[row : row + 1] for x in made), [1])
            own = memory.read(query.key[row : row + 1], query.selection[row : row + 1])
            torch.testing.assert_close(mixed[row : row + 1], own)


def test_select_goes_on_with_some_sequences():
    memory, rest = ThreeTierMemory(SMALL), ThreeTierMemory(SMALL)
    rows = torch.tensor([2, 0])
    for t in range(6):
        made = write(memory, t, batch=3)
        rest.write(*(x[rows] for x in made), [1])
    memory.sensory.grow(torch.zeros(3, 1, 2, H, W))
    memory.select(rows)
    assert memory.sensory.hidden.shape[0] == 2
    torch.testing.assert_close(read(memory, 9, batch=2), read(rest, 9, batch=2))
    for t in range(6, 12):
        write(memory, t, batch=2)
    assert memory.sizes.long_term == 10


def test_settings_may_change_between_frames():
    memory = ThreeTierMemory(replace(SMALL, max_working_frames=9))
    for t in range(8):
        write(memory, t)
    assert memory.sizes[:2] == (8 * HW, 0)
    memory.config = SMALL
    write(memory, 8)
    assert memory.sizes[:2] == (2 * HW, 4)


def test_keys_are_kept_in_full_precision():
    memory = ThreeTierMemory(SMALL)
    made = frame(0)
    memory.write(*(x.bfloat16() for x in made), [1])
    readout = memory.read(made.key.bfloat16(), made.selection.bfloat16())
    assert readout.dtype == torch.bfloat16
    assert memory.working.tokens.key.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = memory.read(made.key.bfloat16(), made.selection.bfloat16())
    assert torch.equal(inside, readout)


def test_clear_forgets_everything():
    memory = ThreeTierMemory(SMALL)
    for t in range(6):
        write(memory, t)
    memory.clear()
    assert memory.sizes == (0, 0, (), ())
    assert memory.objects == ()
    with pytest.raises(ValueError, match="memory is empty"):
        read(memory, 0)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([2, 1], "ascending"),
        ([1], "ascending"),
        ([2, 3], "seen before"),
        ([0, 1], "higher numbers"),
    ],
)
def test_objects_must_be_consistent(objects, message):
    memory = ThreeTierMemory(SMALL)
    write(memory, 0)
    made = frame(1, objects=2)
    with pytest.raises(ValueError, match=message):
        memory.write(*made, objects)
