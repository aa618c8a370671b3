"""What reads look at: the stores' tokens in order, and no more work than has become necessary."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from memory_examples import frame, store, write

from imos_core import affinity
from imos_core.config import MemoryConfig
from imos_core.memory import ThreeTierMemory, TokenStore, reading, three_tier
from imos_core.memory.reading import ReadBuffers, readable

OFTEN = MemoryConfig(1, 2, 4, num_prototypes=4, max_long_term_tokens=14, top_k=5)


def same(ours, theirs):
    """Whether two readables say the same, bit for bit."""
    assert torch.equal(ours.factor, theirs.factor)
    for a, b in zip(ours.values + ours.valid, theirs.values + theirs.valid, strict=True):
        assert torch.equal(a, b)


@pytest.fixture
def copied(monkeypatch):
    """Tokens that were prepared for reading, call by call."""
    counts = []
    prepare = affinity.memory_factor

    def counted(key, shrinkage):
        counts.append(key.shape[2])
        return prepare(key, shrinkage)

    monkeypatch.setattr(affinity, "memory_factor", counted)
    return counts


@pytest.mark.parametrize("batch", [1, 3])
def test_buffers_say_what_the_stores_say(batch):
    buffers = ReadBuffers()
    old, new = store(5, batch=batch), store(7, seed=1, groups=2, batch=batch)
    more = TokenStore.concatenate([new, store(3, seed=2, groups=2, batch=batch)])
    other = store(4, seed=3, groups=2, batch=batch)
    with torch.inference_mode():
        for stores in ([new], [new], [old, new], [old, more], [other, more], [other], [old, new]):
            same(buffers.update(stores), readable(stores))


def test_a_buffer_that_no_longer_fits_is_made_anew():
    buffers = ReadBuffers()
    with torch.inference_mode():
        buffers.update([store(4)])
        for other in (store(4, batch=2), store(99), replace_values(store(4)), store(4, groups=3)):
            same(buffers.update([other]), readable([other]))
        buffers.clear()
        same(buffers.update([store(4)]), readable([store(4)]))


def replace_values(tokens):
    return replace(tokens, values=tuple(v.bfloat16() for v in tokens.values))


def test_many_tokens_are_prepared_block_by_block(monkeypatch, copied):
    monkeypatch.setattr(reading, "_BLOCK", 4)
    with torch.inference_mode():
        found = ReadBuffers().update([store(10)])
    assert copied == [4, 4, 2]
    same(found, readable([store(10)]))


def test_a_read_prepares_nothing_that_an_earlier_one_has(copied):
    """Every slice reads; only a memory frame is new, and only a consolidation moves the rest."""
    memory = ThreeTierMemory(OFTEN, keep_reads=True)
    query = frame(50)
    with torch.inference_mode():
        for t in range(4):
            write(memory, t)
        assert memory.long_term.tokens is not None, "a consolidation took place"
        copied.clear()
        for _ in range(4):
            memory.read(query.key, query.selection)
        assert copied == [memory.sizes.long_term, memory.sizes.working]
        copied.clear()
        write(memory, 4)
        memory.read(query.key, query.selection)
        assert copied == [memory.sizes.working]


@pytest.mark.parametrize("batch", [1, 2])
def test_kept_buffers_change_no_bit_of_a_read(batch):
    kept, fresh = ThreeTierMemory(OFTEN, keep_reads=True), ThreeTierMemory(OFTEN)
    for t in range(30):
        query = frame(t + 100, batch=batch)
        objects = 1 if t < 7 else 2
        with torch.inference_mode():
            write(kept, t, objects, batch=batch)
            ours = kept.read(query.key, query.selection)
        write(fresh, t, objects, batch=batch)
        assert torch.equal(ours, fresh.read(query.key, query.selection))
        if batch == 2 and t == 20:
            for memory in (kept, fresh):
                memory.select(torch.tensor([1, 0]))


def test_going_back_to_an_earlier_state_reads_what_it_read():
    memory = ThreeTierMemory(OFTEN, keep_reads=True)
    query = frame(99)
    with torch.inference_mode():
        for t in range(12):
            write(memory, t)
        state = memory.state()
        before = memory.read(query.key, query.selection)
        for t in range(12, 20):
            write(memory, t)
            memory.read(query.key, query.selection)
        memory.load_state(state, torch.device("cpu"))
        assert torch.equal(memory.read(query.key, query.selection), before)


def test_gradients_flow_through_a_read():
    memory = ThreeTierMemory(OFTEN, keep_reads=True)
    made = frame(0)
    key, value = made.key.clone().requires_grad_(), made.value.clone().requires_grad_()
    memory.write(key, made.shrinkage, value, made.selection, [1])
    memory.read(frame(1).key, frame(1).selection).sum().backward()
    assert key.grad is not None
    assert value.grad is not None
    assert value.grad.any()


@pytest.mark.parametrize("keeps", [True, False])
@torch.inference_mode()
def test_scores_are_computed_a_few_sequences_at_a_time(monkeypatch, keeps):
    """What is held at a time does not grow with the batch."""
    memory = ThreeTierMemory(OFTEN, keep_reads=keeps)
    write(memory, 0, batch=5)
    query = frame(1, batch=5)
    whole = memory.read(query.key, query.selection)
    seen = []
    search = affinity.top_k

    def counted(scores, k):
        seen.append(tuple(scores.shape))
        return search(scores, k)

    monkeypatch.setattr(affinity, "top_k", counted)
    tokens, positions = memory.sizes.working, query.key[0, 0].numel()
    monkeypatch.setattr(three_tier, "_CACHED_SCORES", 2 * tokens * positions)
    torch.testing.assert_close(memory.read(query.key, query.selection), whole)
    assert seen == [(2, tokens, positions), (2, tokens, positions), (1, tokens, positions)]
