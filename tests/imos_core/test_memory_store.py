"""TokenStore: every attribute of a token stays with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_examples import CK, HW, attributes, frame, store

from imos_core.memory import TokenStore

CHANGES = st.lists(
    st.tuples(st.sampled_from(["append", "take", "span", "without", "count"]), st.integers(0, 99)),
    max_size=8,
)


def change(tokens: TokenStore, how: str, seed: int) -> TokenStore:
    generator = torch.Generator().manual_seed(seed)
    count = tokens.tokens
    if how == "append":
        return TokenStore.concatenate([tokens, store(1 + seed % 5, seed, groups=1 + seed % 3)])
    if how == "take":
        return tokens.take(torch.randperm(count, generator=generator)[None, : 1 + count // 2])
    if how == "span":
        return tokens.span(count // 3, None)
    if how == "without":
        return tokens.without(count // 3, count // 2)
    return tokens.count_read(torch.rand(1, count, generator=generator))


@given(CHANGES)
@settings(max_examples=40, deadline=None)
def test_all_attributes_always_have_equally_many_tokens(changes):
    tokens = store(8, groups=2)
    for how, seed in changes:
        tokens = change(tokens, how, seed)
        counts = {x.shape[-1] for x in attributes(tokens)}
        assert counts == {tokens.tokens}
        assert len(tokens.values) == len(tokens.valid)
        for value, valid in zip(tokens.values, tokens.valid, strict=True):
            assert not value.masked_select(~valid[:, :, None, None]).any()


def test_attributes_of_different_counts_are_refused():
    tokens = store(4)
    with pytest.raises(ValueError, match="same count"):
        replace(tokens, shrinkage=tokens.shrinkage[..., :3])
    with pytest.raises(ValueError, match="same count"):
        replace(tokens, valid=())


def test_a_frame_becomes_one_token_for_each_position():
    made = frame(0, objects=3)
    tokens = TokenStore.of_frame(
        made.key, made.shrinkage, made.selection, [made.value[:, :2], made.value[:, 2:]]
    )
    assert tokens.tokens == HW
    assert tokens.group_tokens == (HW, HW)
    assert torch.equal(tokens.key.reshape(1, CK, 2, 3), made.key)
    assert torch.equal(tokens.values[1][0, :, 0].T.reshape(5, 2, 3), made.value[0, 2])
    assert not tokens.usage.any()


def test_a_group_that_a_part_lacks_is_not_valid_there():
    both = TokenStore.concatenate([store(4, groups=1), store(6, groups=2)])
    assert both.group_tokens == (10, 3)
    assert not both.valid[1][:, :7].any()


def test_take_moves_every_attribute_alike():
    tokens = store(5, groups=2, batch=2)
    index = torch.tensor([[4, 0], [1, 3]])
    taken = tokens.take(index)
    for ours, theirs in zip(attributes(taken), attributes(tokens), strict=True):
        for row in range(2):
            assert torch.equal(ours[row], theirs[row][..., index[row]])


def test_without_is_the_rest_of_span():
    tokens = store(6)
    kept = tokens.without(2, 4)
    assert torch.equal(kept.key, tokens.key[..., [0, 1, 4, 5]])
    assert torch.equal(kept.values[0], tokens.values[0][:, [0, 1, 4, 5]])
    assert tokens.without(0, 6).tokens == 0


def test_usage_is_mean_attention_per_read():
    made = frame(0)
    tokens = TokenStore.of_frame(made.key, made.shrinkage, None, [made.value])
    for _ in range(4):
        tokens = tokens.count_read(torch.full((1, HW), 0.5))
    torch.testing.assert_close(tokens.usage, torch.full((1, HW), 0.5))
    assert not tokens.newborn().usage.any()


def test_select_keeps_sequences():
    tokens = store(4, batch=3)
    kept = tokens.select(torch.tensor([2, 0]))
    for ours, theirs in zip(attributes(kept), attributes(tokens), strict=True):
        assert torch.equal(ours, theirs[[2, 0]])
