"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imos_core import moving
from imos_core.errors import FileError
from imos_core.whole_files import swapped_in, writing


def _fill_the_disk(path):
    with swapped_in(path) as partial:
        partial.write_bytes(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_the_old_file_stays_and_one_sentence_says_so(tmp_path):
    path = tmp_path / "overview.png"
    path.write_bytes(b"old")
    words = r"overview\.png cannot be written: no space left on device\.$"
    with pytest.raises(FileError, match=words):
        _fill_the_disk(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_windows_is_told_who_may_hold_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    words = r"a\.tif cannot be written: permission denied; close it in other programs\.$"
    with pytest.raises(FileError, match=words), writing(tmp_path / "a.tif"):
        raise PermissionError(errno.EACCES, "Permission denied")


_KILLED = """
import sys, time
from pathlib import Path
from imos_core.whole_files import swapped_in

with swapped_in(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"some")
    print("there", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that writes a file, until it is killed."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "a.tif")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


def test_what_a_killed_process_has_left_goes_with_the_next_one(tmp_path, writer):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")

    def write(name):
        with swapped_in(tmp_path / name) as partial:
            partial.write_bytes(b"new")

    write("a.tif")
    (folder,) = (one for one in tmp_path.iterdir() if one.is_dir())
    assert (folder / "_.tif").read_bytes() == b"some", "it is alive"
    writer.kill()
    writer.wait()
    write("b.tif")
    assert folder.exists(), "it is of another file"
    write("a.tif")
    assert not folder.exists()
    assert path.read_bytes() == b"new"


def test_what_is_all_that_is_left_stays(tmp_path, writer):
    """A process was killed between two steps: the folder that it replaces is in its own."""
    writer.kill()
    writer.wait()
    (folder,) = tmp_path.iterdir()
    (folder / "old").mkdir()
    for there in (True, False):
        with swapped_in(tmp_path / "a.tif") as partial:
            partial.write_bytes(b"new")
        assert folder.exists() is there


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_who_looks_at_a_file_for_a_moment_does_no_harm(tmp_path, monkeypatch, name):
    """Windows moves nothing that is open, and virus scanners open what is new."""
    monkeypatch.setattr(moving, "_TRIES", 3)
    monkeypatch.setattr(moving, "_PAUSE", 0)
    refusals = []

    def at_first(act):
        def refused(*paths):
            if refusals.count(act) < 2:
                refusals.append(act)
                raise PermissionError(errno.EACCES, "Permission denied")
            return act(*paths)

        return refused

    for _ in range(2):
        refusals.clear()
        with monkeypatch.context() as patch, swapped_in(tmp_path / name) as partial:
            partial.mkdir() if name == "a.zarr" else partial.touch()
            patch.setattr(os, "replace", at_first(os.replace))
            patch.setattr(os, "rename", at_first(os.rename))
    assert len(refusals) == 2
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_held_for_a_moment_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(moving, "_TRIES", 2)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    unlink, refusals = os.unlink, [PermissionError(errno.EACCES, "Permission denied")]

    def refused(path, **more):
        if refusals:
            raise refusals.pop()
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", refused)
    moving.remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_what_could_not_be_removed_goes_after_a_day(tmp_path):
    """Windows keeps what is open, while the lock goes with the process."""
    folder = tmp_path / ".a.tif.0123abcd"
    folder.mkdir()
    (folder / "_.tif").write_bytes(b"some")

    def left_after_a_write():
        with swapped_in(tmp_path / "a.tif") as partial:
            partial.write_bytes(b"new")
        return folder.exists()

    assert left_after_a_write(), "somebody may be about to lock it"
    long_ago = time.time() - 25 * 3600
    os.utime(folder, (long_ago, long_ago))
    assert not left_after_a_write()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of POSIX")
def test_hidden_folders_are_as_open_as_any(tmp_path):
    """What Windows makes of a folder for its maker alone goes with all that moves out of it."""
    (tmp_path / "any").mkdir()
    with swapped_in(tmp_path / "a") as partial:
        assert partial.parent.stat().st_mode == (tmp_path / "any").stat().st_mode
        partial.touch()


@pytest.mark.parametrize("name", ["labels.nii.gz", "a.b.c.ome.tif", "frames", "scan 1.2", ".tif"])
def test_paths_on_the_way_are_hardly_longer_than_names(tmp_path, name):
    """Windows takes 260 characters of a path."""
    path = tmp_path / f"{'x' * 100 * (name[0] != '.')}{name}"
    with swapped_in(path) as partial:
        assert len(str(partial)) < len(str(path)) + 25
        assert partial.suffixes[-2:] == path.suffixes[-2:], "formats look at them"
        partial.touch()
    assert path.exists()


def test_a_folder_that_is_called_by_a_date_stays(tmp_path):
    backup = tmp_path / ".a.zarr.20240101"
    backup.mkdir()
    (backup / "zarr.json").touch()
    os.utime(backup, (1e9, 1e9))
    with swapped_in(tmp_path / "a.zarr") as partial:
        partial.mkdir()
    assert (backup / "zarr.json").exists()


@pytest.mark.parametrize("refused", [OSError, KeyboardInterrupt])
def test_the_only_copy_of_a_folder_stays(tmp_path, monkeypatch, refused):
    """What was there has been moved away, and can be neither replaced nor put back."""
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "zarr.json").touch()
    rename, done = os.rename, []

    def once(old, new):
        if done:
            raise refused
        done.append(rename(old, new))
        if refused is KeyboardInterrupt:
            raise refused

    def write():
        with swapped_in(path) as partial:
            partial.mkdir()
            monkeypatch.setattr(os, "rename", once)

    with pytest.raises(FileError if refused is OSError else refused) as told:
        write()
    (kept,) = tmp_path.rglob("zarr.json")
    assert refused is not OSError or str(kept.parent) in str(told.value)


def test_folders_of_others_stay(tmp_path):
    """Where nothing is locked, nobody knows whether somebody is at work."""
    (tmp_path / ".a.tif.abcdefgh").mkdir()
    (tmp_path / ".a.tif.lock").touch()
    with swapped_in(tmp_path / "a.tif") as partial:
        partial.write_bytes(b"new")
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == [".a.tif.abcdefgh", ".a.tif.lock", "a.tif"]


def test_folders_that_may_not_be_looked_into_stay(tmp_path, writer, monkeypatch):
    """Another person writes the same file in a folder of both: theirs is theirs alone."""
    is_file = Path.is_file

    def refused(path):
        if path.name == ".lock":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    with swapped_in(tmp_path / "a.tif") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "a.tif").read_bytes() == b"new"
    assert any(one.is_dir() for one in tmp_path.iterdir())
