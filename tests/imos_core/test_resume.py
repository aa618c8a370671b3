"""Interrupted runs: whatever ends them, going on gives the same bytes as never having stopped."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from tiny import tiny_model

import imos_core
from imos_core.cli import main
from imos_core.commands import output as command_output
from imos_core.config import MemoryConfig
from imos_core.errors import FileError, PromptError
from imos_core.files import propagate as files
from imos_core.files import results, unchanged
from imos_core.files.propagate import FileJob, propagate_files, read_inputs
from imos_core.formats import omezarr
from imos_core.io import Volume, read_volume, write_labels
from imos_core.walking import waiting
from imos_core.walking.checkpoint import Checkpoint
from imos_core.weights import save_weights

SLICES, SIZE = 44, 32
EVERY = 5


def three_labels():
    """A swinging disc and two squares; one label is painted twice, one on a slice of its own."""
    t, y, x = np.ogrid[:SLICES, :SIZE, :SIZE]
    truth = ((y - 16) ** 2 + (x - 16 - 5 * np.sin(t / 5)) ** 2 < 30).astype(np.uint16)
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    image = np.clip(60 + 120 * truth + noise, 0, 255).astype(np.uint8)
    painted = np.zeros_like(truth)
    painted[10] = truth[10]
    painted[34] = truth[34]
    painted[10, 2:9, 2:9] = 5
    painted[22, 24:30, 20:30] = 9
    return image, painted


@pytest.fixture(autouse=True)
def one_thread():
    """How sums are split among threads may differ from process to process on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    image, painted = three_labels()
    write_labels(tmp_path / "image.zarr", image, Volume(image, (2.0, 1.0, 1.0)))
    write_labels(tmp_path / "painted.tif", painted)
    save_weights(tiny_model(), tmp_path / "tiny.safetensors", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(out, *more):
    return [
        "propagate", "image.zarr", "painted.tif", "-o", out, "--model", "tiny.safetensors",
        "--device", "cpu", "--precision", "float32", "--checkpoint-every", str(EVERY), "--quiet",
        *more,
    ]  # fmt: skip


def content(path):
    """Every byte of a file or folder."""
    if path.is_file():
        return path.read_bytes()
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def killed(folder, out, *more, checkpoints):
    """Start the command in a process of its own, and kill it after so many checkpoints."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(imos_core.__file__).parents[1]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    state = folder / f".{out}.partial" / "checkpoint.pt"
    with subprocess.Popen(
        [sys.executable, "-m", "imos_core.cli", *arguments(out, *more)],
        env=environment,
        stderr=subprocess.PIPE,
    ) as process:
        seen = set()
        while len(seen) < checkpoints:
            assert process.poll() is None, process.stderr.read().decode()
            if state.exists():
                seen.add(state.stat().st_mtime_ns)
            time.sleep(0.001)
        time.sleep(random.random() / 20)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return state


@pytest.mark.slow
@pytest.mark.parametrize("out", ["out.zarr", "out.tif"])
def test_killed_at_a_random_moment(folder, out):
    name = f"whole{Path(out).suffix}"
    confidence = ("--confidence", f"sure-{out}")
    assert main(arguments(name, "--confidence", f"sure-{name}")) == 0
    # the first checkpoint comes before slices that nobody comes to any more, and may hold few
    killed(folder, out, *confidence, checkpoints=random.randint(2, 4))
    assert not (folder / out).exists()
    # what has to be done again is less than what is left
    state = Checkpoint(folder / f".{out}.partial", resume=True)
    assert EVERY <= len(state.finished) < SLICES
    assert main(arguments(out, *confidence, "--resume")) == 0
    whole, again = content(folder / name), content(folder / out)
    if isinstance(whole, dict):
        whole, again = without_names(whole), without_names(again)
    assert again == whole
    np.testing.assert_array_equal(
        np.asarray(read_volume(folder / f"sure-{out}").array),
        np.asarray(read_volume(folder / f"sure-{name}").array),
    )
    assert not list(folder.glob(".*"))


def without_names(files):
    """Files of an OME-Zarr, without the name of its labels."""
    return {
        k.replace("whole", "out"): v.replace(b"whole", b"out") if k.endswith(".json") else v
        for k, v in files.items()
    }


def stopping_after(count, error):
    def stopped(slices, total, *, done, quiet):
        for number, item in enumerate(slices):
            if number == count:
                raise error
            yield item

    return stopped


@pytest.mark.parametrize("window", ["auto", "full"])
@pytest.mark.parametrize("count", [12, 42])
def test_ctrl_c(folder, monkeypatch, capfd, count, window):
    more = ("--window", window)
    assert main(arguments("whole.npy", *more)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(command_output, "with_progress", stopping_after(count, KeyboardInterrupt))
        assert main(arguments("out.npy", *more)) == 130
    assert "--resume" in capfd.readouterr().err
    assert not (folder / "out.npy").exists()
    assert main(arguments("out.npy", *more, "--resume")) == 0
    assert content(folder / "out.npy") == content(folder / "whole.npy")


@pytest.mark.parametrize("out", ["out.zarr", "out.npy"])
def test_full_disk(folder, monkeypatch, capfd, out):
    backend = results._ZarrSlabs if out.endswith("zarr") else results._RawSlabs
    write, left = backend.write, [12 if out.endswith("npy") else 6]

    def full(self, start, slab):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, start, slab)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "write", full)
        assert main(arguments(out)) == 2
    shown = capfd.readouterr().err
    assert "no space left on device" in shown
    assert "--resume" in shown
    assert main(arguments(out, "--resume")) == 0
    assert main(arguments(f"whole-{out}")) == 0
    np.testing.assert_array_equal(
        np.asarray(read_volume(out).array), np.asarray(read_volume(f"whole-{out}").array)
    )


def test_an_interrupted_run_is_not_thrown_away_by_accident(folder, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(command_output, "with_progress", stopping_after(15, KeyboardInterrupt))
        assert main(arguments("out.npy")) == 130
    assert main(arguments("out.npy")) == 2
    assert "--resume" in capfd.readouterr().err
    # other settings would give another result
    assert main(arguments("out.npy", "--resume", "--labels", "5")) == 2
    assert "other inputs or settings" in capfd.readouterr().err
    assert main(arguments("out.npy", "--restart")) == 0
    assert not list(folder.glob(".*"))


def test_on_the_way_to_a_range_what_waits_is_kept(folder, monkeypatch):
    more = ("--labels", "1", "--start", "18", "--stop", "21")
    assert main(arguments("whole.npy", *more)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(command_output, "with_progress", stopping_after(0, KeyboardInterrupt))
        assert main(arguments("out.npy", *more)) == 130
    assert main(arguments("out.npy", *more, "--resume")) == 0
    assert content(folder / "out.npy") == content(folder / "whole.npy")


def test_a_damaged_checkpoint_is_one_sentence(folder, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(command_output, "with_progress", stopping_after(15, KeyboardInterrupt))
        main(arguments("out.npy"))
    (folder / ".out.npy.partial" / "checkpoint.pt").write_bytes(b"nothing of the kind")
    capfd.readouterr()
    assert main(arguments("out.npy", "--resume")) == 2
    assert "is damaged" in capfd.readouterr().err


def test_resume_without_an_interrupted_run_begins(folder):
    assert main(arguments("out.npy", "--resume")) == 0
    assert (folder / "out.npy").exists()


def test_the_old_checkpoint_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save("a", {"finished": [1]})

    def half(state, file):
        file.write(b"half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(FileError, match="no space left"):
        checkpoint.save("a", {"finished": [1, 2]})
    assert Checkpoint(tmp_path, resume=True).finished == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_that_can_be_neither_put_in_place_nor_removed(tmp_path, monkeypatch):
    def refused(*paths, **more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(FileError, match=r"checkpoint\.pt cannot be written: permission denied\.$"):
        Checkpoint(tmp_path).save("a", {"finished": [1]})


def test_what_does_not_come_to_disk_is_one_sentence(tmp_path):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoint = Checkpoint(tmp_path / "state")
    checkpoint.flush = full
    with pytest.raises(FileError, match=r"^The slices so far .*: no space left on device\.$"):
        checkpoint.save("", {})
    assert not checkpoint.exists


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full")
def test_what_waits_and_does_not_fit_the_disk_is_one_sentence(monkeypatch):
    image, painted = (array[:13] for array in three_labels())
    monkeypatch.setattr(waiting, "_HELD_BYTES", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "w+b"))
    prompts = {0: painted[10], 12: painted[10]}
    with pytest.raises(FileError, match=r"\(No space left on device\): make room on the disk\.$"):
        list(imos_core.propagate(image, prompts, labels=5, model=tiny_model(), device="cpu"))


def test_stopping_by_cancel_goes_on_from_the_very_slice(tmp_path):
    image, painted = three_labels()
    prompts = {k: painted[k] for k in (10, 22, 34)}
    model = tiny_model()
    memory = MemoryConfig(
        memorize_every=1, min_working_frames=2, max_working_frames=4,
        num_prototypes=8, max_long_term_tokens=24,
    )  # fmt: skip
    options = {"model": model, "device": "cpu", "precision": "float32", "memory": memory}
    whole = {s.index: s for s in imos_core.propagate(image, prompts, **options)}
    found = {}
    cancel = threading.Event()
    for item in imos_core.propagate(
        image, prompts, checkpoint=Checkpoint(tmp_path, 1000), cancel=cancel, **options
    ):
        found[item.index] = item
        if len(found) == 25:
            cancel.set()
    assert len(found) < SLICES
    rest = list(
        imos_core.propagate(image, prompts, checkpoint=Checkpoint(tmp_path, resume=True), **options)
    )
    assert not {item.index for item in rest} & set(found)
    found |= {item.index: item for item in rest}
    for index, item in whole.items():
        np.testing.assert_array_equal(found[index].labels, item.labels)
        np.testing.assert_array_equal(found[index].confidence, item.confidence)
        assert found[index].source == item.source


class Watched:
    """An image that tells which slices were read, and is gone from one of them on."""

    def __init__(self, array, gone=None):
        self._array, self._gone = array, gone
        self.shape, self.dtype, self.read = array.shape, array.dtype, []

    def __getitem__(self, key):
        if self._gone is not None and key[0] >= self._gone:
            raise KeyboardInterrupt
        self.read.append(key[0])
        return self._array[key]


def test_the_way_to_a_range_is_not_gone_twice(tmp_path):
    image, painted = three_labels()
    options = {"model": tiny_model(), "device": "cpu", "precision": "float32", "start": 36}
    prompts = {10: painted[10]}
    whole = list(imos_core.propagate(image, prompts, **options))
    run = imos_core.propagate(
        Watched(image, gone=30), prompts, checkpoint=Checkpoint(tmp_path, 4), **options
    )
    with pytest.raises(KeyboardInterrupt):
        next(run)
    rest = Watched(image)
    again = list(
        imos_core.propagate(
            rest, prompts, checkpoint=Checkpoint(tmp_path, 4, resume=True), **options
        )
    )
    # a few around the painted slice say how bright it is
    assert set(rest.read).isdisjoint(range(13, 22))
    assert [item.index for item in again] == [item.index for item in whole]
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)


def test_nothing_waits_on_the_way_to_a_range_for_who_has_ended(tmp_path):
    image, painted = three_labels()
    other = np.where(painted[34] == 1, 3, 0).astype(np.uint16)
    options = {"model": tiny_model(), "labels": [3, 5], "ends": {5: [20]}, "start": 40}
    checkpoint = Checkpoint(tmp_path, 1)
    list(imos_core.propagate(image, {10: painted[10], 14: other}, checkpoint=checkpoint, **options))
    assert not torch.load(checkpoint.path, weights_only=True)["waiting"]["entries"]


def test_a_run_that_starts_anew_leaves_nothing_of_the_one_before(tmp_path):
    image, painted = three_labels()
    options = {"model": tiny_model(), "device": "cpu"}
    others = tmp_path / "blocks-2024-paraffin" / "of-somebody.txt"
    others.parent.mkdir()
    others.touch()
    for pixels, every, count in ((image, 1, 7), (255 - image, 1000, 2)):
        checkpoint = Checkpoint(tmp_path, every)
        run = imos_core.propagate(pixels, {10: painted[10]}, checkpoint=checkpoint, **options)
        for _ in range(count):
            next(run)
        run.close()
        assert Checkpoint(tmp_path, resume=True).goes_on == (every == 1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [others]
    assert list(tmp_path.iterdir()) == [others.parent]


@pytest.mark.parametrize(("every", "words"), [(0, "1 up"), (-1, "1 up"), (1.5, "whole number")])
def test_how_often_is_a_whole_number_from_1(tmp_path, every, words):
    with pytest.raises(PromptError, match=words):
        Checkpoint(tmp_path, every)


def test_a_run_makes_its_folder_before_anything_waits_in_it(tmp_path):
    image, painted = (array[:9] for array in three_labels())
    painted[2:7:4] = 1  # between two painted slices, what one side says waits for the other
    checkpoint = Checkpoint(str(tmp_path / "several" / "deep"), 1)
    run = imos_core.propagate(
        image, {2: painted[2], 6: painted[6]}, checkpoint=checkpoint, model=tiny_model()
    )
    assert len(list(run)) == 9
    assert checkpoint.exists


def test_a_folder_that_cannot_be_is_refused_at_the_call(tmp_path):
    image, painted = three_labels()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileError, match="choose another folder"):
            imos_core.propagate(
                image, {10: painted[10]}, checkpoint=Checkpoint(folder), model=tiny_model()
            )


@pytest.mark.parametrize("wanted", [True, False])
def test_labels_that_were_gone_stay_gone_if_that_is_wanted(folder, patience_asked, wanted):
    job = FileJob(
        folder / "image.zarr", folder / "painted.tif", folder / "out.npy", anchors=[22],
        stop_when_gone=wanted, options={"model": tiny_model(), "device": "cpu"},
    )  # fmt: skip
    propagate_files(job)
    assert patience_asked == [3 if wanted else None]


@pytest.fixture
def interrupted(folder, monkeypatch, capfd):
    """A run that was interrupted, and how to go on with it: exit code and stderr."""
    np.save(folder / "image.npy", np.asarray(read_volume(folder / "image.zarr").array))
    (folder / "slices").mkdir()
    for k, plane in enumerate(np.load(folder / "image.npy")):
        tifffile.imwrite(folder / "slices" / f"{k}.tif", plane)

    def interrupt(image="image.zarr", *more, out="out.npy"):
        def run(*others):
            code = main(["propagate", image, *arguments(out, *others)[2:]])
            return code, capfd.readouterr().err

        with monkeypatch.context() as patch:
            patch.setattr(command_output, "with_progress", stopping_after(15, KeyboardInterrupt))
            assert run(*more)[0] == 130
        return lambda *others: run("--resume", *others)

    return interrupt


class TestOtherFiles:
    """What a run was interrupted with is what it goes on with."""

    @pytest.mark.parametrize("image", ["image.npy", "image.zarr", "slices"])
    def test_the_image(self, folder, interrupted, image):
        go_on = interrupted(image)
        # slices that no checkpoint knows: far from those that are painted
        if image == "image.npy":
            pixels = np.load(image)
            pixels[1] = 7
            np.save(image, pixels)
        elif image == "slices":
            tifffile.imwrite(folder / image / "1.tif", np.full((SIZE, SIZE), 7, np.uint8))
        else:
            zarr.open_group(str(folder / image))["labels/image/0"][1] = 7
        code, shown = go_on()
        assert code == 2
        assert "The image was replaced or written since" in shown
        assert shown.count("\n") == 1
        assert (folder / ".out.npy.partial").exists()
        assert main(arguments("out.npy", "--restart")) == 0

    def test_a_slice_more(self, folder, interrupted):
        go_on = interrupted("slices")
        tifffile.imwrite(folder / "slices" / "0a.tif", np.full((SIZE, SIZE), 7, np.uint8))
        assert go_on()[0] == 2

    def test_labels_off_the_painted_slices(self, folder, interrupted):
        go_on = interrupted("image.zarr", "--anchors", "10")
        painted = np.asarray(read_volume(folder / "painted.tif").array).copy()
        painted[40, :5, :5] = 3
        write_labels(folder / "painted.tif", painted)
        code, shown = go_on("--anchors", "10")
        assert code == 2
        assert "The painted labels were replaced or written since" in shown

    def test_what_does_not_matter(self, folder, interrupted):
        go_on = interrupted("slices")
        (folder / "slices" / "notes.txt").write_text("no slice")
        moved = folder / "moved"
        moved.mkdir()
        for path in list(folder.iterdir()):
            if path != moved:
                path.rename(moved / path.name)
        os.chdir(moved)
        assert go_on() == (0, "")

    def test_labels_beside_the_pixels_of_a_zarr(self, folder, interrupted):
        go_on = interrupted("image.zarr")
        zarr.create_array(str(folder / "image.zarr" / "labels" / "more"), shape=(4,), dtype="u1")
        assert go_on() == (0, "")

    def test_a_checkpoint_that_says_nothing_of_them(self, folder, interrupted):
        go_on = interrupted("image.npy")
        path = folder / ".out.npy.partial" / "checkpoint.pt"
        state = torch.load(path, weights_only=True)
        del state["files"]
        torch.save(state, path)
        code, shown = go_on()
        assert code == 2
        assert shown.endswith("checkpoint.pt is damaged: start the run anew.\n")
        assert shown.count("\n") == 1

    @pytest.mark.parametrize("name", ["sure.tif", "sure.zarr"])
    def test_confidence_that_nobody_had_asked_for(self, folder, interrupted, name):
        go_on = interrupted()
        code, shown = go_on("--confidence", name)
        assert code == 2
        assert "another --confidence, or none" in shown
        assert shown.count("\n") == 1
        assert go_on() == (0, "")
        go_on = interrupted("image.zarr", "--confidence", "sure.npy")
        for more in ((), ("--confidence", name)):
            code, shown = go_on(*more)
            assert code == 2
            assert "another --confidence, or none" in shown
        assert go_on("--confidence", "sure.npy") == (0, "")
        assert not list(folder.glob(".*"))


def rewritten(path):
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))


class TestFilesThatChangeMeanwhile:
    """What is read bit by bit must not become something else on the way."""

    @pytest.fixture
    def changing(self, folder, monkeypatch, capfd):
        """Run with something done to the files after so many slices: exit code and stderr."""
        image = np.asarray(read_volume(folder / "image.zarr").array)
        np.save(folder / "image.npy", image)
        (folder / "slices").mkdir()
        for k, plane in enumerate(image):
            tifffile.imwrite(folder / "slices" / f"{k}.tif", plane)

        def run(change, image, *more, after=SLICES - 1):
            def watch(slices, *args, **kwargs):
                for count, item in enumerate(slices, 1):
                    yield item
                    if count == after:
                        change()

            with monkeypatch.context() as patch:
                patch.setattr(command_output, "with_progress", watch)
                code = main(["propagate", image, *arguments("out.npy", *more)[2:]])
            return code, capfd.readouterr().err

        return run

    @pytest.mark.parametrize(
        ("image", "change", "every"),
        [
            ("image.npy", lambda: rewritten(Path("image.npy")), 100),
            ("image.npy", lambda: Path("image.npy").unlink(), EVERY),
            ("slices", lambda: rewritten(Path("slices/3.tif")), EVERY),
            ("slices", lambda: Path("slices/3.tif").unlink(), 100),
            ("image.zarr", lambda: rewritten(next(Path("image.zarr").rglob("c/0/0/0"))), 100),
            ("image.zarr", lambda: next(Path("image.zarr").rglob("c/0/0/0")).unlink(), EVERY),
            ("image.zarr", lambda: shutil.rmtree("image.zarr"), EVERY),
        ],
    )
    def test_an_image(self, folder, changing, image, change, every):
        code, shown = changing(change, image, "--checkpoint-every", str(every))
        assert code == 2
        assert f"{image} was replaced or written while it was read" in shown
        assert shown.count("\n") == 1
        assert not (folder / "out.npy").exists()
        assert (folder / ".out.npy.partial").exists() == (every == EVERY)

    @pytest.mark.parametrize("more", [0, 1])
    def test_a_slice_that_is_not_looked_at(self, folder, changing, monkeypatch, more):
        monkeypatch.setattr(unchanged, "_MOST", 5)

        def change():
            Path("slices/3.tif").unlink()
            for k in range(more):
                shutil.copy("slices/4.tif", f"slices/{SLICES + k}.tif")

        code, shown = changing(change, "slices")
        assert (code, "slices was replaced or written while" in shown) == (2, True)

    def test_labels(self, folder, changing):
        code, shown = changing(lambda: rewritten(folder / "painted.tif"), "image.npy")
        assert (code, "painted.tif was replaced or written while" in shown) == (2, True)

    def test_labels_right_after_they_were_read(self, folder, changing, monkeypatch):
        def reading(job):
            found = read_inputs(job)
            rewritten(folder / "painted.tif")
            return found

        monkeypatch.setattr(files, "read_inputs", reading)
        code, shown = changing(int, "image.npy")
        assert (code, "painted.tif was replaced or written while" in shown) == (2, True)
        assert not (folder / "out.npy").exists()

    def test_an_image_that_cannot_be_read_is_said_as_ever(self, folder, changing):
        (folder / "image.zarr" / "zarr.json").write_text("{")
        code, shown = changing(int, "image.zarr")
        assert (code, "image.zarr cannot be read: it is damaged" in shown) == (2, True)
        code, shown = changing(int, "nothing.zarr")
        assert (code, "nothing.zarr does not exist" in shown) == (2, True)

    def test_no_checkpoint_knows_what_came_then(self, folder, changing):
        before = (folder / "painted.tif").stat()
        code, _ = changing(lambda: rewritten(folder / "painted.tif"), "image.npy", after=13)
        assert code == 2
        state = torch.load(folder / ".out.npy.partial" / "checkpoint.pt", weights_only=True)
        assert len(state["finished"]) < 15
        os.utime(folder / "painted.tif", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert changing(int, "image.npy", "--resume") == (0, "")

    def test_what_does_not_matter(self, folder, changing):
        def change():
            (folder / "slices" / "notes.txt").write_text("no slice")
            shutil.copy("slices/3.tif", f"slices/{SLICES}.tif")  # a recording that goes on
            os.utime("slices/3.tif", ns=(1, (folder / "slices" / "3.tif").stat().st_mtime_ns))
            group = folder / "image.zarr" / "labels" / "more"
            zarr.create_array(str(group), shape=(4,), dtype="u1")

        assert changing(change, "slices") == (0, "")
        shutil.rmtree(folder / "image.zarr" / "labels" / "more")
        assert changing(change, "image.zarr") == (0, "")


@pytest.mark.parametrize("count", [30, 10**7])
def test_few_chunks_of_many_are_looked_at(tmp_path, count):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(count, 4), chunks=(1, 4), dtype="u1")
    array[count // 2] = 1
    files = omezarr.files_of(tmp_path / "a.zarr", 0, 100)
    assert len(files) == min(count, 100) + len(omezarr.MARKS)
    assert files[-1] == tmp_path / "a.zarr" / "c" / str(count - 1) / "0"
    assert count > 100 or sum(f.exists() for f in files) == 2
