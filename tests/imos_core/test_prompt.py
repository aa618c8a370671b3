"""Prompts: what is painted, on which slices, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imos_core.arrays.painted import refuse_across
from imos_core.errors import PromptError, PromptWarning
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


def test_tensors_are_copied_without_a_warning():
    plane = torch.from_numpy(_plane(1).astype(np.int32))
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
        ({5: _plane(1), -5: _plane(2)}, None, "slice 5 was given twice, as 5 and -5"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused(given_prompts, labels, words):
    with pytest.raises(PromptError, match=words):
        read_prompts(given_prompts, 10, SHAPE, labels)


class TestTwoPlanes:
    """A slice across that was painted beside others makes every slice one line."""

    SHAPE = (20, 24, 28)

    def ball(self, across=False, full=(8,), label=1):
        """A ball that is painted on slices, and maybe on slice 14 of axis 2 as well."""
        z, y, x = np.indices(self.SHAPE) - np.array([10, 12, 14])[:, None, None, None]
        truth = np.where(z**2 + y**2 + x**2 < 64, label, 0)
        painted = np.zeros_like(truth)
        if across:
            painted[:, :, 14] = truth[:, :, 14]
        for k in full:
            painted[k] = truth[k]
        return painted

    @staticmethod
    def check(painted, axis=0):
        walked = np.moveaxis(painted, axis, 0)
        refuse_across({k: plane for k, plane in enumerate(walked) if plane.any()}, axis)

    @pytest.mark.parametrize("full", [(8,), (4,), (5, 12), (3, 8, 13)])
    def test_it_is_refused(self, full):
        words = rf"beside slices? {', '.join(map(str, full))} lies on slice 14 of axis 2"
        with pytest.raises(PromptError, match=words):
            self.check(self.ball(across=True, full=full))

    def test_along_another_axis(self):
        painted = np.moveaxis(self.ball(across=True), 0, 1)
        with pytest.raises(PromptError, match=r"slice 14 of axis 2.*slices of axis 1 hold"):
            self.check(painted, axis=1)

    def test_it_may_begin_behind_a_gap(self):
        painted = self.ball(across=True, full=(4,))
        painted[5] = 0
        with pytest.raises(PromptError, match="slice 14 of axis 2"):
            self.check(painted)

    @pytest.mark.parametrize("where", [(10, 14), (9, 12, 17)])
    def test_several_slices_across_alone_are(self, where):
        painted = np.zeros(self.SHAPE, int)
        for x in where:
            painted[:, :, x] = self.ball(full=range(20))[:, :, x]
        with pytest.raises(PromptError, match=" and ".join(map(str, where)) + " of axis 2"):
            self.check(painted)

    def test_one_object_of_several_is_doubtful(self):
        painted = self.ball(full=(8,))
        painted[2:15, 3:7, 25] = 3
        words = "Label 3 is a line on each of slices 2 to 14 of axis 0: .* slice 25 of axis 2"
        with pytest.warns(PromptWarning, match=words):
            self.check(painted)

    def test_plates_of_two_objects_are_doubtful(self):
        painted = self.thin()
        painted[:, 4:20, 18] = 2
        with pytest.warns(PromptWarning, match=r"Label \d is a line") as said:
            self.check(painted)
        assert len(said) == 2

    def test_volumes_with_many_labels_are_not(self):
        cells = np.kron(np.arange(1, 101).reshape(1, 10, 10), np.ones((20, 4, 4), int))
        self.check(cells)
        self.check(np.where(cells == 5, 2**40, cells))

    def test_slices_that_were_painted_in_full_are_not(self):
        self.check(self.ball(full=(4, 8, 9, 10, 15)))
        self.check(self.ball(full=range(20)))

    def thin(self, slices=range(20)):
        """A plate of one voxel, as it is seen on slices."""
        plate = np.zeros(self.SHAPE, int)
        plate[list(slices), 4:20, 14] = 1
        return plate

    def test_a_thin_plate_beside_another_object_is_not(self):
        both = self.thin()
        both[8, 2:9, 2:9] = 2
        with pytest.warns(PromptWarning, match="Label 1 is a line"):
            self.check(both)

    def test_a_thin_plate_on_a_few_slices_is_not(self):
        painted = self.thin((2, 5, 8, 11, 14, 17))
        painted[8, 4:20, 10:18] = 1
        self.check(painted)

    def test_a_thin_plate_on_a_foot_is_not(self):
        painted = self.thin()
        painted[16:, 4:20, 8:20] = 1
        self.check(painted)

    def test_a_thread_with_a_bead_is_not(self):
        painted = np.zeros(self.SHAPE, int)
        painted[:, 12, 14] = 1
        painted[9, 9:16, 11:18] = 1
        self.check(painted)

    def test_a_plate_that_leans_is_not(self):
        painted = np.zeros(self.SHAPE, int)
        for k in range(20):
            painted[k, 4:20, 10 + k // 4] = 1
        painted[9, 4:20, 8:16] = 1
        self.check(painted)


def test_what_is_masked_is_not_painted():
    plane = np.ma.masked_equal([[0, 1], [2, 1]], 1)
    read = read_prompts({1: plane}, 3, (2, 2))
    np.testing.assert_array_equal(read.slices[1], [[0, 0], [2, 0]])
    assert read.anchors == {2: (1,)}
