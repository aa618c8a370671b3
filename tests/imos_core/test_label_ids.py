"""Which labels are on a plane, and where: exact for ids that floating point cannot tell apart."""

import numpy as np
import pytest

from imos_core.label_ids import as_type, carries, heads, ids_on, relabelled

NEURON = 720575940612000000
"""An id as segmentations of connectomes have it: its neighbours are the same as a float64."""
WHOLE = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("count", [1, 10, 60, 400])
@pytest.mark.parametrize("step", [1, 300])
def test_ids_that_are_one_float_are_told_apart(dtype, count, step):
    ids = [NEURON + step * n for n in range(count)]
    near = NEURON + step * (count - 1) + 1
    assert float(near) == float(ids[-1])
    plane = np.zeros((40, 40), dtype)
    plane[:20], plane[20:30] = near, ids[0]
    assert np.array_equal(carries(plane, [7, *ids]), plane == ids[0])


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("count", [0, 1, 3, 90])
def test_the_largest_ids_of_every_type_are_found(dtype, count):
    most = np.iinfo(dtype).max
    plane = np.array([[0, 1, 2], [most, most - 1, most - 100]], dtype)
    ids = [most - n for n in range(count)]
    expected = [[int(v) in ids for v in row] for row in plane]
    assert carries(plane, ids).tolist() == expected


@pytest.mark.parametrize("dtype", WHOLE)
def test_ids_that_a_plane_cannot_hold_are_nowhere(dtype):
    plane = np.array([0, 1, 44, 127], dtype)
    assert carries(plane, [-212, -1, 2**8 + 44, 2**40 + 1, 2**63, 2**64 + 1, 2**70]).sum() == 0
    assert carries(plane, [2**64 + 1, 44]).tolist() == [False, False, True, False]


def test_ids_may_be_any_collection():
    plane = np.array([0, 3, 5, 7], np.uint16)
    expected = [False, True, False, True]
    for ids in ({3, 7}, (3, 7), {3: "a", 7: "b"}, np.array([3, 7]), (i for i in (3, 7))):
        assert carries(plane, ids).tolist() == expected


def test_masks_are_labels_too():
    mask = np.array([True, False])
    assert carries(mask, [1, 5]).tolist() == [True, False]
    assert as_type([0, 1, 2], mask.dtype).tolist() == [False, True]


def test_ids_on_a_plane_are_exact():
    assert ids_on(np.array([0, NEURON + 1, NEURON, 2**64 - 1], np.uint64)) == (
        NEURON,
        NEURON + 1,
        2**64 - 1,
    )


def test_stretches_begin_where_one_of_several_arrays_changes():
    assert heads(np.array([3, 3, 0, 0, 5]), np.array([1, 1, 1, 2, 2])).tolist() == [0, 2, 3, 4]
    assert heads(np.zeros(0)).tolist() == []


@pytest.mark.parametrize("dtype", WHOLE)
def test_labels_get_other_names_all_at_once(dtype):
    most = np.iinfo(dtype).max
    plane = np.array([[0, 1, 1, 2], [3, most, most - 1, 3]], dtype)
    other = relabelled(plane, {1: 2, 2: 1, 3: 0, most: 7, most - 1: 2**64, 2**65: 3, 9: 4})
    assert other.tolist() == [[0, 2, 2, 1], [0, 7, most - 1, 0]]
    assert other.dtype == dtype
    assert relabelled(plane, {4: 5, 2**65: 3}) is plane


def test_large_ids_get_other_names():
    plane = np.array([NEURON, NEURON + 1, NEURON + 2], np.uint64)
    other = relabelled(plane, {NEURON + 1: NEURON + 7})
    assert other.tolist() == [NEURON, NEURON + 7, NEURON + 2]
