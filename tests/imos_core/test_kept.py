"""What lies on the disk and is no earlier result of the same name is never replaced."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from tiny import disc_volume

from imos_core.errors import FileError
from imos_core.file_identity import identity
from imos_core.files.propagate import FileJob, keep_inputs, propagate_files
from imos_core.io import Volume, read_labels, write_labels


def image_zarr(path, image):
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    root.create_array("0", shape=image.shape, dtype=image.dtype)[:] = image
    axes = [{"name": n, "type": "space"} for n in "zyx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}
    root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]


@pytest.fixture
def folder(tmp_path):
    """A folder with an image and labels alone, and an OME-Zarr image."""
    image, truth = disc_volume(5, 32)
    painted = np.zeros_like(truth)
    painted[2] = truth[2]
    (tmp_path / "both").mkdir()
    write_labels(tmp_path / "both" / "image.tif", image)
    write_labels(tmp_path / "both" / "labels.tif", painted)
    image_zarr(tmp_path / "image.zarr", image)
    return tmp_path


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("image", "output"),
    [("both/image.tif", "both"), ("image.zarr/0", "image.zarr"), ("image.zarr", "image.zarr")],
)
def test_inputs_inside_the_output(folder, image, output):
    before = contents(folder)
    job = FileJob(folder / image, folder / "both" / "labels.tif", folder / output)
    with pytest.raises(FileError, match=r"no earlier result|holds an input|is an input"):
        propagate_files(job)
    assert contents(folder) == before


def test_inputs_inside_an_earlier_result(folder):
    labels = read_labels(folder / "both" / "labels.tif")
    write_labels(folder / "result.zarr", labels.array)
    before = contents(folder)
    painted = folder / "result.zarr" / "labels" / "result"
    with pytest.raises(FileError, match="holds an input"):
        propagate_files(FileJob(folder / "image.zarr", painted, folder / "result.zarr"))
    assert contents(folder) == before


def test_the_same_name_in_another_folder_is_another_file(folder, tmp_path):
    """Copies made as hard links: only the name that is written to is replaced."""
    labels = folder / "both" / "labels.tif"
    other = tmp_path / "copy" / labels.name
    other.parent.mkdir()
    os.link(labels, other)
    assert identity(other) != identity(labels)


@pytest.mark.parametrize(("system", "alike"), [("linux", False), ("darwin", True), ("win32", True)])
def test_names_of_files_that_are_not_there_yet(tmp_path, monkeypatch, system, alike):
    monkeypatch.setattr(sys, "platform", system)
    assert (identity(tmp_path / "A.tif") == identity(tmp_path / "a.tif")) is alike


def test_an_input_whose_name_is_spelt_otherwise(folder, spell_anew):
    labels = folder / "both" / "labels.tif"
    output = spell_anew(labels)
    before = contents(folder)
    with pytest.raises(FileError, match=r"Labels\.Tif is an input and would be overwritten"):
        propagate_files(FileJob(folder / "image.zarr", labels, output))
    assert contents(folder) == before


def test_another_part_of_an_input(folder):
    names = "".join(f'<UUID FileName="{n}.tif">{n}</UUID>' for n in ("a", "b&amp;c"))
    for name in ("a", "b&c"):
        text = f"<OME>{names}</OME>"
        tifffile.imwrite(folder / f"{name}.tif", np.zeros((8, 8)), description=text, metadata=None)
    with pytest.raises(FileError, match=r"b&c\.tif is an input and would be overwritten"):
        keep_inputs([folder / "b&c.tif"], [folder / "a.tif"])


def test_another_link_to_an_input_is_a_name_of_its_own(folder):
    labels = folder / "both" / "labels.tif"
    os.link(labels, folder / "out.tif")
    keep_inputs([folder / "out.tif"], [labels])
    before = labels.read_bytes()
    write_labels(folder / "out.tif", np.ones((2, 8, 8), np.uint8))
    assert labels.read_bytes() == before


@pytest.mark.parametrize("output", ["s1.tif", "new.tif", "link.tif"])
@pytest.mark.parametrize("role", ["image", "painted", "confidence"])
def test_a_slice_of_an_input(folder, output, role):
    slices = folder / "slices"
    slices.mkdir()
    for k, plane in enumerate(np.asarray(read_labels(folder / "both" / "labels.tif").array)):
        Image.fromarray(plane).save(slices / f"s{k}.tif")
    (slices / "s2.tif").rename(folder / "elsewhere.tif")
    (slices / "link.tif").symlink_to(folder / "elsewhere.tif")
    before = contents(folder)
    files = {"image": folder / "image.zarr", "painted": folder / "both" / "labels.tif"}
    files |= {"output": slices / output, "image" if role == "confidence" else role: slices}
    if role == "confidence":
        files |= {"confidence": files["output"], "output": folder / "out.tif"}
    with pytest.raises(FileError, match="slices, which is an input and would change"):
        propagate_files(FileJob(**files))
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["photos", "image.zarr", "group.zarr", "array.zarr"])
def test_what_somebody_else_has_written(folder, name):
    (folder / "photos").mkdir()
    Image.new("L", (8, 8)).save(folder / "photos" / "IMG_1.jpg")
    zarr.open_group(str(folder / "group.zarr"), mode="w")
    zarr.create_array(str(folder / "array.zarr"), shape=(4,), dtype="u1")
    before = contents(folder)
    with pytest.raises(FileError, match=r"no earlier result, or one that .*: choose another name"):
        write_labels(folder / name, np.ones((2, 8, 8), np.uint8))
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["slices", "result.zarr", "scan 1.2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_earlier_results_are_replaced(tmp_path, name, dtype):
    for value in (1, 2):
        write_labels(tmp_path / name, np.full((2, 8, 8), value, dtype))
    if dtype is not np.float32:
        assert (read_labels(tmp_path / name).array[:] == 2).all()
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "left"), [("result.zarr", "labels/._result"), ("slices", "._slice_0000.png")]
)
def test_what_file_managers_leave_is_no_addition(tmp_path, name, left):
    for value in (1, 2):
        write_labels(tmp_path / name, np.full((2, 8, 8), value, np.uint8))
        (tmp_path / name / ".DS_Store").touch()
        (tmp_path / name / left).touch()
    assert (read_labels(tmp_path / name).array[:] == 2).all()


def test_a_result_to_which_somebody_has_added_is_kept(tmp_path):
    write_labels(tmp_path / "slices", np.ones((2, 8, 8), np.uint8))
    Image.new("L", (8, 8)).save(tmp_path / "slices" / "mine.png")
    with pytest.raises(FileError, match="no earlier result"):
        write_labels(tmp_path / "slices", np.ones((2, 8, 8), np.uint8))


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "slices").mkdir()
    write_labels(tmp_path / "slices", np.ones((2, 8, 8), np.uint8))
    assert len(list((tmp_path / "slices").glob("*.png"))) == 2


def test_two_results_of_one_name(folder):
    job = FileJob(
        folder / "both" / "image.tif", folder / "both" / "labels.tif", folder / "out.tif",
        confidence=folder / "out.tif",
    )  # fmt: skip
    with pytest.raises(FileError, match="two results at once"):
        propagate_files(job)


def test_images_of_the_same_stem_do_not_become_one(tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(2):
        for suffix in ("png", "bmp"):
            Image.new("L", (8, 8)).save(tmp_path / "in" / f"s{k}.{suffix}")
    like = Volume(np.zeros((4, 8, 8)), None, False, None, "images", {"names": ("s0",) * 4})
    write_labels(tmp_path / "out", np.ones((4, 8, 8), np.uint8), like)
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
