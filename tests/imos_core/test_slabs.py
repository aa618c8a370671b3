"""Slabs: chunks are read once per direction, ahead of time, and memory has a bound."""

from __future__ import annotations

import threading
from collections import Counter

import dask.array as da
import numpy as np
import pytest
import zarr
from tiny import disc_volume, tiny_model

from imos_core import propagate
from imos_core.arrays import slabs
from imos_core.arrays.slabs import SlabReader, mapping, slab_reader
from imos_core.errors import FileError
from imos_core.sweep import Sweep

SHAPE = (20, 12, 16)


class Chunked:
    """An array that counts how often each chunk is read."""

    def __init__(self, array, chunks):
        self.array, self.chunks = array, chunks
        self.shape, self.dtype = array.shape, array.dtype
        self.reads = Counter()
        self.threads = set()

    def __getitem__(self, where):
        self.threads.add(threading.current_thread().name)
        sides = [np.arange(n)[w] for n, w in zip(self.shape, where, strict=True)]
        for z in {int(k) // self.chunks[0] for k in np.atleast_1d(sides[0])}:
            for y in {int(k) // self.chunks[1] for k in np.atleast_1d(sides[1])}:
                for x in {int(k) // self.chunks[2] for k in np.atleast_1d(sides[2])}:
                    self.reads[z, y, x] += 1
        return self.array[where]


def numbers(shape=SHAPE):
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("start", [0, 7, 11])
def test_once_per_direction(axis, start):
    image = Chunked(numbers(), (4, 5, 3))
    reader = slab_reader(image, axis)
    length = SHAPE[axis]
    reader.expect([range(start, length), range(start, -1, -1)])
    for step in range(length):
        for index in (start + step, start - step):
            if 0 <= index < length:
                expected = np.take(image.array, index, axis)
                np.testing.assert_array_equal(reader.plane(index), expected)
    assert set(image.reads.values()) == {1}
    assert any(name.startswith("imos-slabs") for name in image.threads), "nothing was read ahead"


def test_a_whole_propagation_reads_each_chunk_once_per_direction():
    image, labels = disc_volume(24, 32)
    lazy = Chunked(image, (4, 16, 16))
    # from one slice outward: every chunk lies in one direction
    options = {"model": tiny_model(), "device": "cpu", "precision": "float32"}
    found = {s.index: s.labels for s in propagate(lazy, {12: labels[12]}, **options)}
    assert set(lazy.reads.values()) == {1}
    for item in propagate(image, {12: labels[12]}, **options):
        np.testing.assert_array_equal(found[item.index], item.labels)
    # between two slices both walk over everything
    lazy.reads.clear()
    list(propagate(lazy, {2: labels[12], 21: labels[12]}, **options))
    assert max(lazy.reads.values()) <= 2


def test_memory_has_a_bound():
    image = Chunked(numbers((64, 8, 8)), (16, 8, 8))
    reader = SlabReader(image, 0, [16] * 4)
    plane = 8 * 8 * 2
    reader.expect([range(64)], limit=4 * plane)
    assert reader.most_held([range(64)], 4 * plane) == 4 * plane
    for k in range(64):
        reader.plane(k)
        assert sum(s.nbytes for s in reader._slabs.values()) <= 4 * plane
    assert set(image.reads.values()) == {4}, "slabs of four slices out of chunks of sixteen"
    assert image.threads == {threading.current_thread().name}, "there is no room to read ahead"


def test_many_walkers_share_chunks_that_all_fit():
    """From every second slice in both directions: more walkers than chunks."""
    image = Chunked(numbers((64, 8, 8)), (16, 8, 8))
    reader, whole = SlabReader(image, 0, [16] * 4), image.array.nbytes
    paths = [p for k in range(0, 64, 2) for p in (range(k, 64), range(k, -1, -1))]
    reader.expect(paths, limit=whole)
    assert reader.most_held(paths, whole) == reader.most_held(paths, 8 * whole) == whole
    for step in range(64):
        for index in sorted({path[step] for path in paths if step < len(path)}):
            np.testing.assert_array_equal(reader.plane(index), image.array[index])
    assert set(image.reads.values()) == {1}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_zarr_and_dask(axis):
    array = numbers()
    stored = zarr.create_array({}, shape=SHAPE, chunks=(6, 5, 7), dtype=array.dtype)
    stored[...] = array
    for image in (stored, da.from_array(array, chunks=((3, 9, 8), 5, -1))):
        sweep = Sweep(image, axis)
        for k in (0, 1, 2, SHAPE[axis] - 1):
            np.testing.assert_array_equal(sweep.raw(k), np.take(array, k, axis))


def test_what_cannot_be_read_ahead_is_reported_when_it_is_needed():
    class Broken(Chunked):
        def __getitem__(self, where):
            if where[0].stop > 8:
                raise OSError("the disk is gone")
            return super().__getitem__(where)

    sweep = Sweep(Broken(numbers(), (4, 12, 16)), 0)
    for k in range(8):
        sweep.frame(k)
    with pytest.raises(FileError, match="the disk is gone"):
        sweep.frame(8)


def test_mapped_files_are_read_right_and_their_pages_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(slabs, "PASSED_BYTES", 100)
    np.save(tmp_path / "a.npy", numbers())
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert mapping(mapped.transpose(2, 0, 1)) is not None
    # pages of a private mapping must not be dropped: what was written there would be lost
    assert mapping(np.load(tmp_path / "a.npy", mmap_mode="c")) is None
    assert mapping(numbers()) is None
    for axis in range(3):
        walked = Sweep(mapped, axis)
        for k in range(SHAPE[axis]):
            np.testing.assert_array_equal(walked.raw(k), np.take(numbers(), k, axis))
