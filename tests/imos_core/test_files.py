"""Propagation from files to files: streaming results are what the engine says, in every format."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from tiny import disc_volume, tiny_model

import imos_core
from imos_core import io, locks
from imos_core.arrays.channels import limits_of
from imos_core.arrays.painted import Painted
from imos_core.arrays.slabs import PlaneReader
from imos_core.cli import main
from imos_core.errors import FileError, PromptError
from imos_core.files.budget import budget_of, read_limit
from imos_core.files.one_run import lock_file, only_run
from imos_core.files.propagate import FileJob, propagate_files
from imos_core.files.results import SliceWriter, most_held, plane_bytes
from imos_core.formats import omezarr_labels
from imos_core.io import Volume, read_labels, read_volume, write_labels

SLICES, SIZE = 21, 32
OPTIONS = {"model": tiny_model(), "device": "cpu", "precision": "float32"}


@pytest.fixture
def volume():
    image, truth = disc_volume(9, SIZE)
    order = [*range(9), *range(7, 0, -1), *range(5)]
    return image[order], truth[order]


def expected(image, painted, axis, **more):
    """What the engine says, in memory."""
    result = np.moveaxis(painted.copy(), axis, 0)
    prompts = {k: p for k, p in enumerate(result.copy()) if p.any()}
    for item in imos_core.propagate(
        image, prompts, axis=axis, spacing=(2, 1, 1), **OPTIONS, **more
    ):
        if item.source != "anchor":
            result[item.index] = item.labels
    return np.moveaxis(result, 0, axis)


@pytest.fixture
def channels(tmp_path, volume):
    """A TIFF of five channels, of which numbers 1 and 4 show the object, and a painted slice."""
    image, truth = volume
    noise = np.random.default_rng(3).integers(0, 9, (5, *image.shape), dtype=np.uint16)
    noise[1] += image.astype(np.uint16) * 20
    noise[4] += 255 - image
    tifffile.imwrite(tmp_path / "five.tif", noise.swapaxes(0, 1), imagej=True,
                     metadata={"axes": "ZCYX"})  # fmt: skip
    np.save(tmp_path / "five.npy", noise)
    painted = np.zeros_like(truth)
    painted[10] = truth[10]
    write_labels(tmp_path / "painted.tif", painted)
    return noise, painted


class TestChannels:
    @pytest.mark.parametrize("name", ["five.tif", "five.npy"])
    def test_several_are_seen_at_once(self, tmp_path, channels, name):
        pixels, painted = channels
        job = FileJob(tmp_path / name, tmp_path / "painted.tif", tmp_path / "out.npy",
                      channels=[1, -1], options=OPTIONS)  # fmt: skip
        propagate_files(job)
        both = []
        for channel in (pixels[1], pixels[4]):
            low, high = limits_of(channel, 0, {10: painted[10]})
            both.append(np.clip((channel.astype(np.float32) - low) / (high - low), 0, 1))
        colours = np.stack([*both, (both[0] + both[1]) / 2], -1).astype(np.float32)
        found = {
            item.index: item.labels
            for item in imos_core.propagate(
                colours, {10: painted[10]}, channels_last=True, contrast=(0, 1), **OPTIONS
            )
        }
        saved = np.load(tmp_path / "out.npy")
        for k, labels in found.items():
            np.testing.assert_array_equal(saved[k], labels)

    def test_one_is_a_grey_image(self, tmp_path, channels):
        pixels, painted = channels
        job = FileJob(tmp_path / "five.tif", tmp_path / "painted.tif", tmp_path / "out.npy",
                      channels=[1], options=OPTIONS)  # fmt: skip
        propagate_files(job)
        wanted = painted.copy()
        for item in imos_core.propagate(pixels[1], {10: painted[10]}, **OPTIONS):
            wanted[item.index] = item.labels
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted)

    @pytest.mark.parametrize(
        ("name", "more", "words"),
        [
            ("five.tif", [], "choose up to three channels"),
            ("five.tif", ["--channels", "7"], "There is no channel 7: the image has 5."),
            ("five.tif", ["--channels", "0,1,2,3"], "Choose one to 3 channels, not 4."),
            ("painted.tif", ["--channels", "0"], "has no channels"),
            ("five.tif", ["--channels", "0,1", "--contrast", "0,9"], "contrast of its own"),
        ],
    )
    def test_what_does_not_fit_is_said(self, tmp_path, channels, capsys, name, more, words):
        arguments = [str(tmp_path / name), str(tmp_path / "painted.tif")]
        out = tmp_path / "out.tif"
        assert main(["propagate", *arguments, "-o", str(out), "--quiet", *more]) == 2
        assert words in capsys.readouterr().err
        assert not out.exists()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("version", [2, 3])
def test_along_any_axis(tmp_path, volume, axis, version):
    image, truth = volume
    like = Volume(image, (2.0, 1.0, 1.0), unit="micrometer", format="zarr",
                  extra={"zarr_format": version})  # fmt: skip
    write_labels(tmp_path / "image.zarr", image, like)
    painted = np.zeros_like(truth)
    where = tuple([slice(None)] * axis + [SIZE // 2 if axis else 10])
    painted[where] = truth[where]
    write_labels(tmp_path / "painted.tif", painted)
    job = FileJob(
        tmp_path / "image.zarr", tmp_path / "painted.tif", tmp_path / "out.zarr",
        axis=axis, options=OPTIONS,
    )  # fmt: skip
    propagate_files(job)
    wanted = expected(image, painted, axis)
    found = read_volume(tmp_path / "out.zarr")
    np.testing.assert_array_equal(np.asarray(found.array), wanted)
    assert (found.spacing, found.unit) == ((2.0, 1.0, 1.0), "micrometer")
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    assert group.metadata.zarr_format == version
    labels = group["labels"]
    told = labels.attrs if version == 2 else labels.attrs["ome"]
    assert list(told["labels"]) == ["out"]
    np.testing.assert_array_equal(labels["out/0"][...], wanted)
    assert labels["out/0"].chunks[axis] == min(16, image.shape[axis])
    np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "out.zarr").array), wanted)
    # other people's reading of the standard, which needs newer libraries than we do
    models = pytest.importorskip("ome_zarr_models")
    for node in (group, labels["out"], labels):
        models.open_ome_zarr(node)


def test_what_was_painted_on_turned_voxels_is_not_put_on_others(tmp_path, volume):
    image, truth = volume
    group = zarr.open_group(str(tmp_path / "image.zarr"), mode="w")
    group.create_array("0", data=image)
    axes = [{"name": name, "type": "space"} for name in "xyz"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * 3}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    write_labels(tmp_path / "painted.tif", truth)
    job = FileJob(tmp_path / "image.zarr", tmp_path / "painted.tif", tmp_path / "out.npy",
                  session=True, options=OPTIONS)  # fmt: skip
    with pytest.raises(PromptError, match="another order than z, y, x"):
        propagate_files(job)


def test_pyramid(tmp_path):
    array = np.zeros((40, 300, 700), np.uint16)
    array[10:30, 100:200, 300:600] = 70000 % 65536
    array[0, 0, 0] = 9
    write_labels(tmp_path / "a.zarr", array, Volume(array, (4.0, 1.0, 1.0)))
    levels = [read_volume(tmp_path / "a.zarr", level=k) for k in range(3)]
    shapes = [level.array.shape for level in levels]
    # coarse slices wait until pixels are as coarse
    assert shapes == [(40, 300, 700), (40, 150, 350), (40, 75, 175)]
    assert [level.spacing for level in levels] == [(4, 1, 1), (4, 2, 2), (4, 4, 4)]
    np.testing.assert_array_equal(np.asarray(levels[2].array), array[:, ::4, ::4])
    with pytest.raises(FileError, match="levels 0 to 2, so there is no level 3"):
        read_volume(tmp_path / "a.zarr", level=3)
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FileError, match="no levels of resolution"):
        read_volume(tmp_path / "a.npy", level=1)


def test_a_level_and_a_time_point_of_an_image(tmp_path, volume):
    image, truth = volume
    group = zarr.open_group(str(tmp_path / "image.zarr"), mode="w", zarr_format=3)
    both = np.stack([image * 0, image])
    group.create_array("0", data=np.repeat(np.repeat(both, 2, 2), 2, 3), chunks=(1, 4, 32, 32))
    group.create_array("1", data=both, chunks=(1, 4, 16, 16))
    scales = [[1.0, 2.0, 0.5, 0.5], [1.0, 2.0, 1.0, 1.0]]
    axes = [{"name": "t", "type": "time"}, *({"name": n, "type": "space"} for n in "zyx")]
    levels = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": s}]}
        for i, s in enumerate(scales)
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    painted = np.zeros_like(truth)
    painted[10] = truth[10]
    write_labels(tmp_path / "painted.tif", painted)
    job = FileJob(
        tmp_path / "image.zarr", tmp_path / "painted.tif", tmp_path / "out.zarr",
        level=1, time=1, options=OPTIONS,
    )  # fmt: skip
    propagate_files(job)
    found = read_volume(tmp_path / "out.zarr")
    assert found.spacing == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(np.asarray(found.array), expected(image, painted, 0))
    with pytest.raises(FileError, match="time points 0 to 1, not 2"):
        read_volume(tmp_path / "image.zarr", time=2)
    with pytest.raises(FileError, match="more than three axes"):
        read_volume(tmp_path / "image.zarr")


def test_names_may_be_text_and_one_anchor_or_label_needs_no_list(tmp_path):
    image, truth = disc_volume(5, SIZE)
    painted = truth * (np.arange(5) == 2)[:, None, None]
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "painted.npy", painted)
    names = [str(tmp_path / f"{name}.npy") for name in ("image", "painted", "out", "sure")]
    propagate_files(FileJob(*names, anchors=2, labels=1, options=OPTIONS))
    assert read_labels(names[2]).array[2].any()
    assert np.load(names[3]).shape == image.shape


def test_a_job_is_what_it_was_given_however_that_was_written():
    job = FileJob("a.tif", "b.tif", "c.tif", anchors=4)
    assert job == FileJob(Path("a.tif"), Path("b.tif"), Path("c.tif"), anchors=[4])
    assert (job.image, job.confidence, job.anchors, job.labels) == (Path("a.tif"), None, [4], None)
    assert pickle.loads(pickle.dumps(job)) == copy.deepcopy(job) == job
    other = replace(job, confidence="d.tif", anchors=np.int64(5))
    assert (other.image, other.confidence, other.anchors) == (job.image, Path("d.tif"), [5])
    with pytest.raises(FrozenInstanceError):
        job.image = Path("z.tif")
    with pytest.raises(TypeError, match="output"):
        FileJob("a.tif", "b.tif")


def test_what_is_no_file_and_no_number_is_one_sentence():
    with pytest.raises(FileError, match="painted must be a path, not 3"):
        FileJob("image.npy", 3, "out.npy")
    with pytest.raises(PromptError, match="anchors must be whole numbers"):
        FileJob("image.npy", "painted.npy", "out.npy", anchors="four")


def test_a_window_that_counted_voxels_says_nothing_of_their_size(tmp_path):
    image, labels = disc_volume(5, 32)
    labels[[0, 1, 3, 4]] = 0
    write_labels(tmp_path / "image.tif", image.astype(np.uint8), Volume(image, (2.0, 0.5, 0.5)))
    write_labels(tmp_path / "painted.tif", labels, Volume(labels))
    ones = (1.0, 1.0, 1.0)
    given = (tmp_path / "image.tif", tmp_path / "painted.tif", tmp_path / "out.tif")
    for session, spacing in ((True, (2.0, 0.5, 0.5)), (False, ones)):
        job = FileJob(*given, session=session, spacing=ones, options=OPTIONS)
        propagate_files(job)
        assert read_labels(tmp_path / "out.tif").spacing == spacing


def test_one_painted_slice_is_enough(tmp_path, volume):
    image, truth = volume
    write_labels(tmp_path / "image.tif", image, Volume(image, (2.0, 1.0, 1.0)))
    tifffile.imwrite(tmp_path / "one.tif", truth[10])
    painted = np.zeros_like(truth)
    painted[10] = truth[10]
    job = FileJob(tmp_path / "image.tif", tmp_path / "one.tif", tmp_path / "out.npy",
                  anchors=[10], options=OPTIONS)  # fmt: skip
    propagate_files(job)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected(image, painted, 0))
    job = FileJob(job.image, job.painted, job.output, options=OPTIONS)
    with pytest.raises(PromptError, match="which one it is"):
        propagate_files(job)


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_large_tiffs_are_written_plane_by_plane(tmp_path, monkeypatch, volume, kind):
    from imos_core.formats import tiff

    labels = volume[1] if kind == "imagej" else volume[1].astype(np.uint32)
    write_labels(tmp_path / "whole.tif", labels, Volume(labels, (2.0, 1.0, 1.0)))
    monkeypatch.setattr(tiff, "LOADED_AT_ONCE", 1)
    write_labels(tmp_path / "planes.tif", labels, Volume(labels, (2.0, 1.0, 1.0)))
    one, other = (read_volume(tmp_path / f"{name}.tif") for name in ("whole", "planes"))
    np.testing.assert_array_equal(np.asarray(other.array), labels)
    assert other.spacing == one.spacing == (2.0, 1.0, 1.0)
    assert other.extra == one.extra


class TestWriter:
    @pytest.fixture
    def make(self, tmp_path):
        def make(name="out.zarr", expected=range(40), done=(), limit=None):
            return SliceWriter(
                tmp_path / "work", tmp_path / name, shape=(40, 8, 8), dtype=np.dtype("u2"), axis=0,
                like=Volume(np.zeros(0)), initial=lambda a, b: np.full((b - a, 8, 8), 7, "u2"),
                expected=expected, done=done, limit=limit,
            )  # fmt: skip

        return make

    @pytest.mark.parametrize("name", ["out.zarr", "out.tif"])
    def test_chunks_are_written_once_whatever_the_order(self, make, monkeypatch, name):
        writer = make(name)
        written = []
        put = type(writer._backend).write
        monkeypatch.setattr(
            type(writer._backend),
            "write",
            lambda self, start, slab: (written.append(start), put(self, start, slab)),
        )
        for k in [20, *(k for i in range(1, 20) for k in (20 + i, 20 - i)), 0]:
            writer.write(k, np.full((8, 8), k))
        assert len(written) == len(set(written)) == (3 if name == "out.zarr" else 40)

    def test_what_is_never_written_is_as_at_first(self, make):
        writer = make(expected=range(3, 5))
        writer.write(3, np.full((8, 8), 1))
        writer.write(4, np.full((8, 8), 2))
        path = writer.finish()
        found = omezarr_labels.level_zero(path)[:, 0, 0].tolist()
        assert found == [7, 7, 7, 1, 2, *[7] * 35]

    def test_under_a_limit_chunks_are_thin_enough(self, make):
        plane, limit, held = 8 * 8 * 2, 8 * 8 * 2 * 10, []
        writer = make(limit=limit)
        for k in [20, *(k for i in range(1, 20) for k in (20 + i, 20 - i)), 0]:
            writer.write(k, np.full((8, 8), k))
            held.append(sum(slab.nbytes for slab in writer._slabs.values()))
        assert max(held) <= limit < most_held(writer.output, plane, limit)
        array = omezarr_labels.level_zero(writer.finish())
        assert array.chunks[0] == 5
        assert array[:, 0, 0].tolist() == list(range(40))

    def test_many_open_slabs_go_to_disk_and_come_back(self, make):
        writer = make()
        writer._most = 1
        for k in range(40):
            writer.write(k * 17 % 40, np.full((8, 8), k * 17 % 40))
        found = omezarr_labels.level_zero(writer.finish())[:, 0, 0].tolist()
        assert found == list(range(40))


class TestBudget:
    @pytest.fixture
    def labels(self):
        shape = (40, 64, 64)
        return zarr.create_array({}, shape=shape, chunks=(16, 32, 32), dtype="u8", fill_value=0)

    def test_labels_as_read_and_as_written_count(self, labels):
        plane, of = 64 * 64 * 8, 10**6
        painted = Painted(labels, labels.shape, 0)

        def beside(output, **more):
            job = FileJob("a", "b", output, options={"memory_budget": of}, **more)
            return budget_of(job, painted)["memory_budget"].beside(of)

        assert of / 4 < beside("c.zarr") < of / 2
        assert of / 8 < beside("c.npy") < of / 4, "slices that are written one by one"
        assert beside("c.npy", confidence="d.npy") == beside("c.npy") + 3 * plane // 2
        assert budget_of(FileJob("a", "b", "c.npy"), painted) == {}

    def test_labels_are_looked_through_in_little_memory(self, labels):
        labels[7, 3:9, 3:9] = 5
        job = FileJob("a", "b", "c.npy", options={"memory_budget": 8 * 4 * 64 * 64 * 8})
        painted, held = Painted(labels, labels.shape, 0, limit=read_limit(job)), []
        look = painted.plane
        painted.plane = lambda k: (held.append(painted._reader._slabs._slabs.copy()), look(k))[1]
        assert list(painted.prompts()) == [7]
        assert max(sum(s.nbytes for s in slabs.values()) for slabs in held) == read_limit(job)
        painted.let_go()
        assert not painted._reader._slabs._slabs


def test_sizes_are_counted_in_large_numbers(monkeypatch):
    """Those of NumPy 1 have 32 bits on Windows."""
    monkeypatch.setattr(np, "prod", lambda n: np.multiply.reduce(np.asarray(n, np.int32)))
    shape = (2, 50_000, 50_000)
    labels = np.broadcast_to(np.uint8(0), shape)
    sizes = {plane_bytes(shape, 0, np.uint8), Painted(labels, shape, 0).plane_bytes}
    assert sizes | {PlaneReader(labels, 0, np.asarray).plane_bytes} == {2_500_000_000}


def test_a_nonsensical_amount_of_memory(tmp_path, capfd, volume):
    np.save(tmp_path / "a.npy", volume[0])
    np.save(tmp_path / "p.npy", volume[1])
    arguments = ["propagate", str(tmp_path / "a.npy"), str(tmp_path / "p.npy"), "-o"]
    assert main([*arguments, str(tmp_path / "b.npy"), "--memory", "much"]) == 2
    assert "'much' is no amount of memory" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "fails"),
    [
        *((name, "") for name in ("out.tif", "out.npy", "out.nii.gz", "out.zarr", "out")),
        ("out.npy", "disk"),
        ("out.npy", "writer"),
    ],
)
def test_no_file_is_held_when_it_is_to_go(
    tmp_path, volume, held_when_discarded, monkeypatch, name, fails
):
    """Windows removes no file that is open or mapped: it would stay, as large as the result."""
    image, truth = volume
    painted = np.zeros_like(truth)
    painted[9] = truth[9]
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "painted.npy", painted)
    job = FileJob(tmp_path / "image.npy", tmp_path / "painted.npy", tmp_path / name,
                  confidence=tmp_path / "sure.tif", options=OPTIONS)  # fmt: skip
    if fails:
        errors = {"disk": OSError(errno.ENOSPC, "No space left on device"), "writer": TypeError()}

        def full(path, array, like):
            _seen = array[:2]
            raise errors[fails]

        monkeypatch.setitem(io._WRITERS, "tiff", full)
        with pytest.raises(FileError, match=r"sure\.tif cannot be written"):
            propagate_files(job)
    else:
        propagate_files(job, every=3)
    assert held_when_discarded == []
    assert not list(tmp_path.glob(".*"))


class TestTwoRunsAtOnce:
    @pytest.fixture
    def job(self, tmp_path, volume):
        image, truth = volume
        painted = np.zeros_like(truth)
        painted[9] = truth[9]
        np.save(tmp_path / "image.npy", image)
        np.save(tmp_path / "painted.npy", painted)
        return FileJob(tmp_path / "image.npy", tmp_path / "painted.npy", tmp_path / "out.npy",
                       options=OPTIONS)  # fmt: skip

    @pytest.mark.parametrize("more", [{}, {"resume": True}, {"restart": True}])
    @pytest.mark.parametrize("shared", ["output", "confidence"])
    def test_the_second_is_refused_and_harms_nothing(self, tmp_path, job, shared, more):
        sure = tmp_path / "sure.npy"
        job = replace(job, confidence=sure)
        other = replace(job, **{shared: tmp_path / "other.npy"})
        refused = []

        def watch(slices, total, done):
            for number, item in enumerate(slices):
                if number == 8:
                    with pytest.raises(FileError) as caught:
                        propagate_files(other, **more)
                    refused.append(str(caught.value))
                yield item

        propagate_files(job, every=3, watch=watch)
        name = sure if shared == "output" else job.output
        words = "is being written by another run: wait for it, or choose another output."
        assert refused == [f"{name} {words}"]
        found = np.load(job.output)
        np.testing.assert_array_equal(found, expected(*map(np.load, job.inputs()), 0))
        propagate_files(other)
        assert not list(tmp_path.glob(".*"))

    def test_a_run_that_fails_lets_go(self, tmp_path, job):
        with pytest.raises(PromptError):
            propagate_files(replace(job, labels=[77]))
        assert not list(tmp_path.glob(".*"))
        propagate_files(job)

    def test_a_process_that_is_killed_lets_go(self, tmp_path, job):
        code = (
            "import sys, time, pathlib; from imos_core.files.one_run import only_run\n"
            "with only_run([pathlib.Path(sys.argv[1])]): print(flush=True); time.sleep(99)"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(imos_core.__file__).parents[1])}
        with subprocess.Popen(
            [sys.executable, "-c", code, job.output], env=environment, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            with pytest.raises(FileError, match="another run"):
                propagate_files(job)
            process.kill()
        assert lock_file(job.output).exists()
        propagate_files(job)
        assert not list(tmp_path.glob(".*"))

    def test_file_systems_without_locks_serve(self, tmp_path, job, monkeypatch):
        def unknown(descriptor):
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(locks, "_lock", unknown)
        with only_run([job.output]):
            propagate_files(job)
        assert job.output.exists()
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.skipif(sys.platform == "win32", reason="no file goes while it is open there")
    def test_a_lock_on_a_file_that_is_gone_is_none(self, tmp_path, job, monkeypatch):
        lock, path = locks._lock, lock_file(job.output)

        def late(descriptor):
            lock(descriptor)
            if not seen:
                path.unlink()  # the run that had it ends just now
            seen.append(descriptor)

        seen = []
        monkeypatch.setattr(locks, "_lock", late)
        with only_run([job.output]), pytest.raises(FileError, match="another run"):
            propagate_files(job)
        assert len(seen) == 2
