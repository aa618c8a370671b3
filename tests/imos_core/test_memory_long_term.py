"""Long-term memory: prototypes, potentiation and eviction."""

from __future__ import annotations

from dataclasses import replace

import golden_recipe
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_examples import attributes, store

from imos_core.memory import LongTermMemory, TokenStore
from imos_core.memory.long_term import consolidate, potentiate, select_prototypes, survivors

SEEDS = st.integers(0, 2**31 - 1)


def with_usage(tokens: TokenStore, usage: list[float] | torch.Tensor) -> TokenStore:
    use = torch.as_tensor(usage).expand_as(tokens.use)
    return replace(tokens, use=use, life=torch.ones_like(use))


def test_prototypes_match_the_reference():
    with np.load(golden_recipe.SUBSET) as archive:
        g = {k[5:]: torch.from_numpy(archive[k]) for k in archive if k.startswith("unit_")}
    late = g["candidate_value_1"]
    candidates = TokenStore(
        key=g["mk"],
        shrinkage=g["ms"],
        selection=g["candidate_selection"],
        values=(
            g["candidate_value_0"].permute(2, 0, 1)[None],
            torch.cat([late.new_zeros(*late.shape[:2], 8), late], 2).permute(2, 0, 1)[None],
        ),
        valid=(torch.ones(1, 20, dtype=torch.bool), torch.arange(20)[None] >= 8),
        use=g["candidate_usage"][0],
        life=torch.ones(1, 20),
    )
    made = consolidate(candidates, 4)
    assert made.selection is None
    assert not made.usage.any()
    valid = made.valid[1][0]
    assert int(valid.sum()) == 3
    torch.testing.assert_close(made.key, g["prototype_key"])
    torch.testing.assert_close(made.shrinkage, g["prototype_shrinkage"])
    torch.testing.assert_close(made.values[0][0].permute(1, 2, 0), g["prototype_value_0"])
    found = made.values[1][0][valid].permute(1, 2, 0)
    torch.testing.assert_close(found, g["prototype_value_1"])
    assert not made.values[1][0][~valid].any()


def test_the_most_used_become_prototypes_most_used_first():
    usage = torch.tensor([[0.1, 0.4, 0.2, 0.3], [4.0, 3.0, 2.0, 1.0]])
    assert select_prototypes(usage, 3).tolist() == [[1, 3, 2], [0, 1, 2]]


def test_no_more_prototypes_than_candidates():
    assert select_prototypes(torch.rand(1, 3), 128).shape == (1, 3)
    assert consolidate(store(3), 128).tokens == 3


@given(SEEDS, st.integers(1, 10), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_prototypes_are_means_of_candidates(seed, tokens, count):
    candidates = store(tokens, seed, batch=2)
    made = consolidate(candidates, count)
    for mixed, parts in (
        (made.values[0].movedim(1, -1), candidates.values[0].movedim(1, -1)),
        (made.shrinkage, candidates.shrinkage),
    ):
        assert (mixed <= parts.amax(-1, keepdim=True) + 1e-5).all()
        assert (mixed >= parts.amin(-1, keepdim=True) - 1e-5).all()


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_potentiation_weighs_valid_candidates_only(seed):
    candidates, prototypes = store(6, seed), store(3, seed + 1)
    valid = torch.tensor([[False, True, True, False, True, False]])
    weights = potentiate(
        candidates.key, candidates.shrinkage, prototypes.key, prototypes.selection, valid
    )
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 3))
    assert not weights[:, ~valid[0]].any()
    nobody = torch.zeros_like(valid)
    none = potentiate(candidates.key, candidates.shrinkage, prototypes.key, None, nobody)
    assert not none.any()


def test_batched_sequences_are_consolidated_each_by_itself():
    candidates = store(7, batch=3)
    together = consolidate(candidates, 2)
    for row in range(3):
        alone = consolidate(candidates.select(torch.tensor([row])), 2)
        for ours, theirs in zip(attributes(together), attributes(alone), strict=True):
            torch.testing.assert_close(ours[row], theirs[0])


def test_a_late_group_is_not_lost_with_its_tokens():
    """All prototypes stem from before the group: each then stands for the group, too."""
    candidates = with_usage(store(6, groups=2), [9.0, 8.0, 7.0, 0.0, 0.0, 0.0])
    assert candidates.valid[1][0].tolist() == [False] * 3 + [True] * 3
    made = consolidate(candidates, 2)
    assert made.valid[1].all()
    assert made.values[1].any()


@pytest.mark.parametrize(
    ("usage", "count", "expected"),
    [
        ([0.3, 0.1, 0.2, 0.4], 2, [0, 3]),
        ([0.5, 0.5, 0.5, 0.5], 3, [1, 2, 3]),  # of equals the newest
        ([0.1, 0.9], 5, [0, 1]),
    ],
)
def test_survivors_are_the_most_used_in_memory_order(usage, count, expected):
    assert survivors(torch.tensor([usage]), count).tolist() == [expected]


def test_eviction_leaves_exactly_as_many_as_asked():
    memory = LongTermMemory()
    memory.write(with_usage(store(4, groups=2), [0.4, 0.1, 0.3, 0.2]))
    memory.write(with_usage(store(4, seed=1, groups=2), [0.5, 0.5, 0.5, 0.5]))
    memory.evict(8)  # nothing to do; the reference fails here
    assert memory.tokens.tokens == 8
    before = memory.tokens
    memory.evict(5)
    assert memory.tokens.tokens == 5
    assert torch.equal(memory.tokens.key, before.key[..., [0, 4, 5, 6, 7]])
    assert torch.equal(memory.tokens.valid[1], before.valid[1][..., [0, 4, 5, 6, 7]])
