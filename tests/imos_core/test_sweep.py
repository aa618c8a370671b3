"""Sweep: any axis, any array, one slice at a time; and what it refuses."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import torch
from dask import delayed

from imos_core.errors import FileError, ImageError, PromptError
from imos_core.sweep import Sweep


class _Counting:
    """Array that counts how often it is read, and how much."""

    def __init__(self, data):
        self.data, self.shape, self.reads = data, data.shape, []

    def __getitem__(self, where):
        out = self.data[where]
        self.reads.append(out.size)
        return out


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_slices_are_those_of_the_axis(axis):
    volume = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    sweep = Sweep(volume, axis)
    assert len(sweep) == volume.shape[axis]
    for k in range(len(sweep)):
        np.testing.assert_array_equal(sweep.frame(k), np.take(volume, k, axis))


def test_one_slice_is_read_at_a_time():
    lazy = _Counting(np.zeros((10, 8, 8), np.uint8))
    Sweep(lazy).frame(3)
    assert lazy.reads == [64]


@pytest.mark.parametrize("make", ["dask", "zarr", "memmap"])
def test_lazy_arrays(make, tmp_path):
    volume = np.random.default_rng(0).integers(0, 255, (4, 6, 8), np.uint8)
    if make == "dask":
        array = pytest.importorskip("dask.array").from_array(volume, chunks=2)
    elif make == "zarr":
        array = pytest.importorskip("zarr").create_array(
            store=tmp_path / "a.zarr", data=volume, chunks=(2, 3, 3)
        )
    else:
        array = np.memmap(tmp_path / "a.raw", np.uint8, "w+", shape=volume.shape)
        array[:] = volume
    np.testing.assert_array_equal(Sweep(array, 1).frame(2), volume[:, 2])


def test_colour_keeps_three_channels_and_drops_alpha():
    video = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 4), np.uint8)
    np.testing.assert_array_equal(Sweep(video, channels_last=True).frame(1), video[1, ..., :3])


def test_one_channel_is_a_plain_slice():
    video = np.ones((3, 4, 5, 1), np.uint8)
    assert Sweep(video, channels_last=True).frame(0).shape == (4, 5)


@pytest.mark.parametrize(
    ("shape", "options", "error", "words"),
    [
        ((5, 5), {}, ImageError, "three spatial axes"),
        ((5, 5, 5, 3), {}, ImageError, "channels_last"),
        ((5, 5, 5, 7), {"channels_last": True}, ImageError, "1 to 4 channels"),
        ((5, 5, 5), {"axis": 3}, PromptError, "Axis 3 is out of range"),
        ((1, 5, 5), {}, ImageError, "only one slice"),
        ((5, 0, 5), {}, ImageError, "empty"),
        ((0, 5, 5), {}, ImageError, "empty"),
    ],
)
def test_what_does_not_fit_is_refused(shape, options, error, words):
    with pytest.raises(error, match=words):
        Sweep(np.zeros(shape), **options)


def test_an_image_that_does_not_know_its_shape_is_refused():
    volume = da.ones((5, 4, 4), chunks=2)
    with pytest.raises(ImageError, match=r"does not know its own shape \(\(nan, 4, 4\)\)"):
        Sweep(volume[da.from_array(np.ones(5, bool), chunks=2)])


def test_numbers_beyond_float32_are_infinite_without_a_warning(recwarn):
    volume = np.zeros((3, 2, 2))
    volume[1] = [[1e300, -1e300], [np.nan, 7]]
    np.testing.assert_array_equal(Sweep(volume).frame(1), [[np.inf, -np.inf], [np.nan, 7]])
    assert not recwarn.list


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64", "float32"])
def test_what_is_masked_is_nan(dtype):
    volume = np.ma.masked_greater(np.arange(12).reshape(3, 2, 2).astype(dtype), 6)
    np.testing.assert_array_equal(Sweep(volume).frame(1), [[4, 5], [6, np.nan]])


def test_tensors_with_a_gradient_and_in_types_that_numpy_lacks():
    volume = torch.arange(12.0).view(3, 2, 2)
    for image in (volume.clone().requires_grad_(), volume.bfloat16()):
        np.testing.assert_array_equal(Sweep(image).frame(1), [[4, 5], [6, 7]])


def test_complex_numbers_are_refused():
    with pytest.raises(ImageError, match="complex"):
        Sweep(np.zeros((3, 4, 4), complex)).frame(0)


@pytest.mark.parametrize("colours", [(), (3,)])
@pytest.mark.parametrize("odd", [(6, 5), (5, 6, 4)])
def test_a_slice_of_another_shape_is_refused(odd, colours):
    """As napari opens frames: the shape of the first one is that of all."""
    plane = np.ones((5, 6, *colours), np.uint8)
    other = np.ones(odd if len(odd) > 2 else (*odd, *colours), np.uint8)
    read = [plane, plane, other]
    image = da.stack(
        [da.from_delayed(delayed(np.array)(one), plane.shape, plane.dtype) for one in read]
    )
    sweep = Sweep(image, channels_last=bool(colours))
    assert sweep.frame(1).shape == plane.shape
    with pytest.raises(ImageError) as error:
        sweep.frame(2)
    assert str(error.value) == (
        f"Slice 2 of the image has shape {other.shape}, the others {plane.shape}: bring all to one "
        "shape."
    )


class Broken:
    """An image of which nothing can be read."""

    shape = (3, 4, 4)

    def __init__(self, error):
        self.error = error

    def __getitem__(self, where):
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("disk gone"), "disk gone"),
        (RuntimeError("error during blosc decompression: -1"), "error during blosc .*: -1"),
        (EOFError("Compressed file ended\nsomewhere"), "Compressed file ended"),
        (StopIteration(), "StopIteration"),
    ],
)
def test_a_failing_read_names_the_slice(error, said):
    with pytest.raises(FileError, match=rf"^Slice 2 of the image cannot be read: {said}\.$"):
        Sweep(Broken(error)).frame(2)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError(), KeyboardInterrupt(), FileError("Told already.")],
)
def test_other_ends_of_a_read_are_what_they_are(error):
    with pytest.raises(type(error)) as caught:
        Sweep(Broken(error)).frame(2)
    assert caught.value is error
