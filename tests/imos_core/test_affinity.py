"""Memory reading: golden numbers, closed forms and properties."""

from __future__ import annotations

import golden_recipe
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imos_core import affinity

COUNTS = st.integers(1, 12)
SEEDS = st.integers(0, 2**31 - 1)


def draw(seed: int, channels: int, tokens: int, positions: int):
    generator = torch.Generator().manual_seed(seed)
    key = torch.randn(2, channels, tokens, generator=generator)
    shrinkage = 1 + torch.randn(2, 1, tokens, generator=generator).square()
    query = torch.randn(2, channels, positions, generator=generator)
    selection = torch.sigmoid(torch.randn(2, channels, positions, generator=generator))
    return key, shrinkage, query, selection


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(golden_recipe.SUBSET) as archive:
        return {k: torch.from_numpy(archive[k]) for k in archive if k.startswith("unit_")}


# ---- golden numbers ----


@pytest.mark.parametrize("left_out", ["", "_no_selection", "_no_shrinkage"])
def test_similarity_matches_the_reference(golden, left_out):
    shrinkage = None if left_out == "_no_shrinkage" else golden["unit_ms"]
    selection = None if left_out == "_no_selection" else golden["unit_qe"]
    scores = affinity.similarity(golden["unit_mk"], shrinkage, golden["unit_qk"], selection)
    torch.testing.assert_close(scores, golden[f"unit_similarity{left_out}"])


def test_softmax_matches_the_reference(golden):
    scores = golden["unit_similarity"]
    top = affinity.top_k_softmax(scores, 5)
    torch.testing.assert_close(top, golden["unit_affinity_top5"])
    torch.testing.assert_close(top.sum(2), golden["unit_usage_top5"])
    torch.testing.assert_close(torch.softmax(scores, dim=1), golden["unit_affinity_full"])


# ---- closed forms ----


@given(SEEDS, COUNTS, COUNTS, COUNTS)
@settings(max_examples=25, deadline=None)
def test_similarity_is_a_weighted_negative_squared_distance(seed, channels, tokens, positions):
    key, shrinkage, query, selection = draw(seed, channels, tokens, positions)
    scores = affinity.similarity(key, shrinkage, query, selection)
    distance = (key[:, :, :, None] - query[:, :, None]).square()  # (B, CK, N, M)
    weighted = (selection[:, :, None] * distance).sum(1)
    expected = -shrinkage.transpose(1, 2) * weighted / channels**0.5
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


def test_a_token_is_most_similar_to_itself():
    key, shrinkage, _, selection = draw(0, 8, 5, 5)
    scores = affinity.similarity(key, shrinkage, key, selection)
    torch.testing.assert_close(
        scores.diagonal(dim1=1, dim2=2), torch.zeros(2, 5), atol=1e-5, rtol=0
    )
    assert torch.equal(scores.argmax(1), torch.arange(5).expand(2, -1))


def test_equal_tokens_share_attention():
    scores = torch.zeros(1, 8, 3)
    assert torch.equal(torch.softmax(scores, dim=1), torch.full((1, 8, 3), 1 / 8))


def test_readout_is_a_matrix_product():
    weights = torch.rand(2, 4, 3)
    value = torch.rand(2, 5, 6, 4)
    expected = torch.einsum("bncj,bjm->bncm", value, weights)
    torch.testing.assert_close(affinity.readout(weights, value), expected)


# ---- properties ----


@given(SEEDS, COUNTS, st.integers(1, 15))
@settings(max_examples=25, deadline=None)
def test_top_k_keeps_the_best_k_and_sums_to_one(seed, tokens, k):
    scores = affinity.similarity(*draw(seed, 4, tokens, 3))
    weights = affinity.top_k_softmax(scores, k)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 3))
    assert int((weights > 0).sum(1).max()) <= min(k, tokens)
    kept_least = scores.masked_fill(weights == 0, float("inf")).amin(1)
    left_most = scores.masked_fill(weights > 0, float("-inf")).amax(1)
    # a weight may underflow to 0, hence not "<"
    assert (left_most <= kept_least).all()


@given(SEEDS, COUNTS)
@settings(max_examples=15, deadline=None)
def test_top_k_of_everything_is_the_softmax(seed, tokens):
    scores = affinity.similarity(*draw(seed, 4, tokens, 3))
    expected = torch.softmax(scores, dim=1)
    torch.testing.assert_close(affinity.top_k_softmax(scores, tokens), expected)
    torch.testing.assert_close(affinity.top_k_softmax(scores, tokens + 7), expected)


def test_distant_tokens_do_not_underflow():
    """The reference divides 0 by 0 where every score is below about -88."""
    scores = torch.tensor([-1000.0, -1001.0, -1002.0])[None, :, None]
    assert not torch.exp(scores).any()
    for weights in (affinity.top_k_softmax(scores, 2), torch.softmax(scores, dim=1)):
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


@given(SEEDS, COUNTS)
@settings(max_examples=15, deadline=None)
def test_reading_does_not_depend_on_token_order(seed, tokens):
    key, shrinkage, query, selection = draw(seed, 4, tokens, 3)
    value = torch.randn(2, 1, 5, tokens, generator=torch.Generator().manual_seed(seed))
    order = torch.randperm(tokens, generator=torch.Generator().manual_seed(seed))

    def read(key, shrinkage, value):
        scores = affinity.similarity(key, shrinkage, query, selection)
        return affinity.readout(affinity.top_k_softmax(scores, 3), value)

    expected = read(key, shrinkage, value)
    shuffled = read(key[..., order], shrinkage[..., order], value[..., order])
    torch.testing.assert_close(shuffled, expected)


DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sparse_readout_is_the_readout_of_the_top_k_softmax(device, dtype):
    scores = affinity.similarity(*(x.to(device) for x in draw(3, 4, 40, 7)))
    value = torch.randn(2, 40, 3, 5, device=device).to(dtype)
    weights, index = affinity.top_k(scores, 6)
    expected = affinity.readout(
        affinity.top_k_softmax(scores, 6), value.permute(0, 2, 3, 1).float()
    )
    found = affinity.sparse_readout(weights, index, value)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
