"""Prompts: what is painted, on which slices, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imos_core.errors import PromptError
from imos_core.prompt import read_prompts

SHAPE = (4, 5)


def _plane(*ids, dtype=np.uint8):
    plane = np.zeros(SHAPE, dtype)
    plane.flat[: len(ids)] = ids
    return plane


def test_anchors_of_each_label():
    prompts = read_prompts({7: _plane(1, 2), 3: _plane(2)}, 10, SHAPE)
    assert prompts.anchors == {1: (7,), 2: (3, 7)}


def test_negative_indices_count_from_the_end():
    assert list(read_prompts({-1: _plane(1)}, 10, SHAPE).slices) == [9]


def test_restricting_labels():
    assert list(read_prompts({0: _plane(1, 2, 3)}, 5, SHAPE, labels=[3, 1]).anchors) == [1, 3]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.int64])
def test_dtype_is_kept(dtype):
    assert read_prompts({0: _plane(1, dtype=dtype)}, 5, SHAPE).dtype == dtype


@pytest.mark.parametrize("other", [np.int8, np.int64, np.uint8])
def test_labels_of_two_types_lose_no_id(other):
    large = 2**53 + 1  # no float64
    prompts = read_prompts({0: _plane(large, dtype=np.uint64), 1: _plane(7, dtype=other)}, 5, SHAPE)
    assert prompts.dtype == np.uint64
    assert set(prompts.anchors) == {large, 7}


@given(
    st.dictionaries(
        st.integers(0, 9), st.sets(st.integers(1, 60000), min_size=1, max_size=5), min_size=1
    )
)
def test_every_painted_id_is_found_where_it_is(painted):
    planes = {k: _plane(*ids, dtype=np.uint16) for k, ids in painted.items()}
    anchors = read_prompts(planes, 10, SHAPE).anchors
    for k, ids in painted.items():
        assert {i for i, where in anchors.items() if k in where} == ids


def test_the_copy_is_independent():
    plane = _plane(1)
    prompts = read_prompts({0: plane}, 5, SHAPE)
    plane[:] = 9
    assert prompts.slices[0].max() == 1


@pytest.mark.parametrize(
    ("given_prompts", "labels", "words"),
    [
        ({}, None, "paint at least one slice"),
        ({2: _plane()}, None, "Nothing is painted on slice 2"),
        ({12: _plane(1)}, None, "slice 12 is outside"),
        ({0: _plane(1).astype(float)}, None, "must be integers"),
        ({0: np.ones((3, 3), np.uint8)}, None, r"shape \(3, 3\)"),
        ({0: _plane(-1, dtype=np.int16)}, None, "negative labels"),
        ({0: _plane(1)}, [4], "Label 4 is not painted"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused(given_prompts, labels, words):
    with pytest.raises(PromptError, match=words):
        read_prompts(given_prompts, 10, SHAPE, labels)
