"""The command `imos`: results in files, progress, exit codes, and one line for every bad input."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tiny import disc_volume, tiny_model
from zarr_files import write_ome_zarr

from imos_core import io, samples
from imos_core.arguments import integers, spacing
from imos_core.cli import main
from imos_core.commands import output as command_output
from imos_core.errors import FileError
from imos_core.formats import tiff
from imos_core.io import Volume, read_volume, write_labels
from imos_core.weights import save_adapter, save_weights

SPACING = (2.0, 1.0, 1.0)
SLICES, SIZE = 5, 32


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(tiny_model(), path, {"training": '{"minutes": 1}'})
    return str(path)


@pytest.fixture
def disc():
    return disc_volume(SLICES, SIZE)


@pytest.fixture
def files(tmp_path, disc):
    """An image and labels that are painted on slice 2."""
    image, truth = disc
    painted = np.zeros_like(truth)
    painted[2] = truth[2]
    write_labels(tmp_path / "image.tif", image, Volume(image, SPACING, unit="micrometer"))
    write_labels(tmp_path / "labels.tif", painted)
    return tmp_path


@pytest.mark.parametrize("wanted", [True, False])
def test_stop_when_gone_is_patience(files, model, monkeypatch, patience_asked, wanted):
    monkeypatch.chdir(files)
    more = ["--stop-when-gone"] if wanted else []
    command = ["propagate", "image.tif", "labels.tif", "-o", "out.tif", "--model", model]
    assert main([*command, "--device", "cpu", *more]) == 0
    assert patience_asked == [3 if wanted else None]


@pytest.fixture
def imos(files, model, capfd, monkeypatch):
    """Run `imos propagate image.tif labels.tif -o out.tif` with changes; exit code and stderr."""
    monkeypatch.chdir(files)

    def run(*more, image="image.tif", labels="labels.tif", out="out.tif", model=model):
        code = main(
            ["propagate", image, labels, "-o", out, "--model", model, "--device", "cpu",
             "--precision", "float32", *more]
        )  # fmt: skip
        return code, capfd.readouterr().err

    return run


def names(folder):
    return sorted(p.name for p in folder.iterdir())


class TestPropagate:
    def test_result(self, imos, files, disc):
        code, shown = imos("--quiet")
        assert (code, shown) == (0, "")
        result = read_volume(files / "out.tif")
        assert result.spacing == pytest.approx(SPACING)
        assert result.array.dtype == np.uint16
        assert result.array.shape == (SLICES, SIZE, SIZE)
        np.testing.assert_array_equal(result.array[2], disc[1][2])
        assert names(files) == ["image.tif", "labels.tif", "out.tif"]

    @pytest.mark.parametrize("out", ["out.nii.gz", "out.zarr", "out.npy", "out"])
    def test_every_format(self, imos, files, disc, out):
        assert imos(out=out)[0] == 0
        result = read_volume(files / out)
        np.testing.assert_array_equal(result.array[2], disc[1][2])
        if out.endswith((".gz", ".zarr")):
            factor = 1e-3 if out.endswith(".gz") else 1
            assert result.spacing == pytest.approx([factor * s for s in SPACING])

    def test_names_that_are_not_utf8(self, imos, files, disc):
        odd = os.fsdecode(b"b\xe4ld")
        try:
            (files / odd).mkdir()
        except OSError:
            pytest.skip("no such names on this file system")
        # slices of the result are called as those of the image are
        for k, plane in enumerate(disc[0]):
            Image.fromarray(plane).save(files / odd / f"{odd}{k}.png")
        assert imos("--quiet", image=odd, out=f"{odd}-labels") == (0, "")
        # and are an earlier result of ours, which may be replaced
        assert imos("--quiet", image=odd, out=f"{odd}-labels") == (0, "")
        assert names(files / f"{odd}-labels")[1:] == names(files / odd)

    def test_is_what_the_engine_says(self, imos, files, disc, model):
        import imos_core

        image, truth = disc
        imos("--direction", "forward", "--window", "full", "--contrast", "-10,250")
        expected = np.zeros_like(truth)
        for item in imos_core.propagate(
            image,
            {2: truth[2]},
            direction="forward",
            window="full",
            contrast=(-10, 250),
            spacing=SPACING,
            model=model,
            device="cpu",
            precision="float32",
        ):
            expected[item.index] = item.labels
        np.testing.assert_array_equal(np.asarray(read_volume(files / "out.tif").array), expected)

    def test_a_warning_of_ours_is_a_line(self, imos, files, disc):
        write_ome_zarr(files / "image.zarr", disc[0], "0.5", scale=[0.0, 1.0, 1.0])
        code, shown = imos("--quiet", image="image.zarr")
        assert code == 0
        assert shown.startswith("imos propagate: image.zarr says where its voxels lie")
        assert shown.count("\n") == 1

    def test_labels_of_every_slice_leave_nothing_to_do(self, imos, files, disc):
        full = np.maximum(disc[1], disc[1][2])
        write_labels(files / "labels.tif", full)
        code, shown = imos("--quiet")
        assert code == 0
        assert shown.count("\n") == 1
        assert f"All {SLICES} slices are painted" in shown
        np.testing.assert_array_equal(read_volume(files / "out.tif").array, full)
        assert imos("--quiet", "--anchors", "2") == (0, "")

    def test_an_image_of_one_value_is_told(self, imos, files):
        write_labels(files / "image.tif", np.full((SLICES, SIZE, SIZE), 3, np.uint8))
        code, shown = imos("--quiet")
        assert code == 0
        assert shown.startswith("imos propagate: The image is constant")
        assert shown.count("\n") == 1
        assert imos("--quiet", "--contrast", "0,9") == (0, "")

    def test_progress_is_on_stderr(self, imos, monkeypatch):
        import tqdm

        monkeypatch.setattr("tqdm.tqdm", lambda **options: tqdm.std.tqdm(**{**options, "delay": 0}))
        assert re.search(rf"{SLICES}/{SLICES}", imos()[1])

    def test_confidence(self, imos, files):
        assert imos("--confidence", "sure.tif", "--start", "1")[0] == 0
        confidence = np.asarray(read_volume(files / "sure.tif").array)
        assert confidence.dtype == np.float32
        assert (confidence[2] == 1).all()
        assert (confidence[0] == 0).all()
        assert ((confidence[1:] > 0) & (confidence[1:] <= 1)).all()
        assert read_volume(files / "sure.tif").spacing == pytest.approx(SPACING)

    def test_other_labels_and_painted_slices_stay(self, imos, files, disc):
        painted = np.zeros_like(disc[1])
        painted[2] = disc[1][2]
        painted[:, :3, :3] = 7
        painted[4, 10:20, 10:20] = 1
        write_labels(files / "labels.tif", painted)
        assert imos("--labels", "1", "--anchors", "2,4")[0] == 0
        result = np.asarray(read_volume(files / "out.tif").array)
        np.testing.assert_array_equal(result == 7, painted == 7)
        np.testing.assert_array_equal(result[[2, 4]], painted[[2, 4]])

    def test_labels_go_through_slices_that_show_others_only(self, imos, files, disc):
        painted = np.zeros_like(disc[1])
        painted[2] = disc[1][2]
        painted[4, :3, :3] = 7
        write_labels(files / "labels.tif", painted)
        label = str(disc[1].max())
        assert imos("--labels", label, out="one.tif")[0] == 0
        one = np.asarray(read_volume(files / "one.tif").array)
        np.testing.assert_array_equal(one == 7, painted == 7)
        assert (one[4] == int(label)).any()

    @pytest.mark.parametrize("axis", ["1", "-1"])
    def test_another_axis(self, imos, files, disc, axis):
        painted = np.zeros_like(disc[1])
        where = (slice(None), 16) if axis == "1" else (..., 16)
        painted[where] = disc[1][where]
        write_labels(files / "labels.tif", painted)
        assert imos("--axis", axis)[0] == 0
        np.testing.assert_array_equal(
            np.asarray(read_volume(files / "out.tif").array)[where], painted[where]
        )

    def test_labels_saved_as_floats(self, imos, files, disc):
        painted = np.zeros(disc[1].shape)
        painted[2] = disc[1][2]
        nibabel.save(nibabel.Nifti1Image(painted.T, np.eye(4)), files / "labels.nii.gz")
        assert imos(labels="labels.nii.gz")[0] == 0

    def test_given_spacing_goes_into_the_result(self, imos, files):
        assert imos("--spacing", "3,2,2")[0] == 0
        assert read_volume(files / "out.tif").spacing == pytest.approx((3, 2, 2))

    def test_spacing_of_the_labels_if_the_image_has_none(self, imos, files, disc):
        np.save(files / "image.npy", disc[0])
        labels = np.asarray(read_volume(files / "labels.tif").array)
        write_labels(files / "labels.tif", labels, Volume(labels, SPACING))
        assert imos(image="image.npy")[0] == 0
        assert read_volume(files / "out.tif").spacing == pytest.approx(SPACING)

    def test_colour(self, imos, files, disc):
        np.save(files / "colour.npy", np.stack([disc[0]] * 3, -1))
        assert imos(image="colour.npy")[0] == 0
        assert read_volume(files / "out.tif").array.shape == disc[1].shape


class TestPlaces:
    """NIfTI files say where their voxels lie."""

    @pytest.fixture
    def nifti(self, files, disc):
        """An image, painted labels, and the same stored mirrored along x with a true affine."""
        image, truth = disc
        painted = np.zeros_like(truth)
        painted[2] = truth[2]
        affine = np.diag([-1.0, 1, 2, 1])
        mirrored = affine @ np.diag([-1.0, 1, 1, 1])
        mirrored[:3, 3] = affine[:3, 0] * (SIZE - 1)
        for name, array, place in (
            ("image", image.T, affine),
            ("labels", painted.T, affine),
            ("mirrored", painted.T[::-1], mirrored),
        ):
            nibabel.save(nibabel.Nifti1Image(array, place), files / f"{name}.nii.gz")
        return {"image": "image.nii.gz", "labels": "mirrored.nii.gz", "out": "out.nii.gz"}

    def test_labels_that_lie_elsewhere_are_refused(self, imos, nifti, files):
        code, shown = imos("--quiet", **nifti)
        assert code == 2
        assert len(shown.splitlines()) == 1
        assert "mirrored.nii.gz does not lie where image.nii.gz lies" in shown
        assert "resample the labels onto the image" in shown
        assert not (files / "out.nii.gz").exists()
        assert imos("--quiet", **nifti | {"labels": "labels.nii.gz"})[0] == 0
        # an earlier result is as good a prompt
        again = {"labels": "out.nii.gz", "out": "again.nii.gz"}
        assert imos("--quiet", "--anchors", "2", **nifti | again)[0] == 0

    def test_other_commands(self, imos, nifti, capfd):
        for arguments in (
            ["adapt", "image.nii.gz", "mirrored.nii.gz", "-o", "a.safetensors"],
            ["evaluate", "mirrored.nii.gz", "labels.nii.gz"],
        ):
            assert main(arguments) == 2
            assert "does not lie where" in capfd.readouterr().err

    def test_volumes_of_a_series(self, imos, nifti, files):
        four = [nibabel.load(files / "image.nii.gz")] * 2
        nibabel.save(nibabel.concat_images(four), files / "series.nii.gz")
        series = nifti | {"image": "series.nii.gz", "out": "out.npy"}
        code, shown = imos("--quiet", "--series", "--time", "1", **series)
        assert code == 2
        assert "does not lie where series.nii.gz lies" in shown
        assert imos("--quiet", "--time", "1", **series | {"labels": "labels.nii.gz"})[0] == 0


def empty_labels(files):
    write_labels(files / "labels.tif", np.zeros((SLICES, SIZE, SIZE), np.uint8))


def other_shape(files):
    write_labels(files / "labels.tif", np.ones((SLICES, SIZE, SIZE + 1), np.uint8))


def float_labels(files):
    tifffile.imwrite(files / "labels.tif", np.full((SLICES, SIZE, SIZE), 0.5, np.float32))


def nan_image(files):
    write_labels(files / "image.tif", np.full((SLICES, SIZE, SIZE), np.nan, np.float32))


def one_slice(files):
    for name in ("image.tif", "labels.tif"):
        np.save(files / name.replace("tif", "npy"), np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
    return {"image": "image.npy", "labels": "labels.npy"}


def truncated_image(files):
    content = (files / "image.tif").read_bytes()
    (files / "image.tif").write_bytes(content[: len(content) // 2])


def text_image(files):
    (files / "image.tif").write_text("no image at all")


def truncated_labels(files):
    content = (files / "labels.tif").read_bytes()
    (files / "labels.tif").write_bytes(content[: len(content) // 2])


def unknown_type(files):
    (files / "image.pdf").write_text("%PDF")
    return {"image": "image.pdf"}


def wrong_checkpoint(files):
    torch.save({"weight": torch.zeros(3)}, files / "other.pth")
    return {"model": "other.pth"}


def damaged_checkpoint(files):
    (files / "other.safetensors").write_bytes(b"nothing of the kind")
    return {"model": "other.safetensors"}


def labels_across(files):
    labels = np.asarray(read_volume(files / "labels.tif").array) * 0
    labels[:, 9, 5:15] = 1
    write_labels(files / "across.tif", labels)
    return {"labels": "across.tif"}


LONG = "a" * 252 + ".tif"
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
BAD = [
    (empty_labels, (), "No slice of the labels is painted"),
    (None, ("--anchors", "0"), "Nothing is painted on slice 0"),
    (None, ("--anchors", "99"), "Anchor 99 is outside"),
    (None, ("--anchors", "two"), "'two' is no list of whole numbers"),
    (other_shape, (), "but the image"),
    (None, ("--axis", "3"), "Axis 3 is out of range"),
    (labels_across, (), "lies on slice 9 of axis 1, but the slices of axis 0 are walked"),
    (None, ("--labels", "9"), "Label 9 is not painted"),
    (float_labels, (), "whole numbers"),
    (nan_image, (), "NaN"),
    (one_slice, (), "one slice"),
    (truncated_image, (), "cut short or damaged"),
    (truncated_labels, (), "cut short or damaged"),
    (text_image, (), "cannot be read"),
    (unknown_type, (), "no known type"),
    (lambda _: {"image": "missing.tif"}, (), "missing.tif does not exist"),
    (lambda _: {"labels": "missing.tif"}, (), "missing.tif does not exist"),
    (lambda _: {"model": "missing.pth"}, (), "missing.pth does not exist"),
    (lambda _: {"model": "nonsense"}, (), "no model named 'nonsense'"),
    (lambda _: {"image": LONG}, (), "too long"),
    (lambda _: {"labels": LONG}, (), "too long"),
    (lambda _: {"out": LONG}, (), "too long"),
    (lambda _: {"model": LONG}, (), "too long"),
    (None, ("--adapter", LONG), "too long"),
    (None, ("--confidence", LONG), "too long"),
    (wrong_checkpoint, (), "other.pth"),
    (damaged_checkpoint, (), "other.safetensors"),
    (None, ("--adapter", "missing.safetensors"), "missing.safetensors does not exist"),
    pytest.param(None, ("--device", "cuda"), "No CUDA device", marks=NO_GPU),
    (None, ("--device", "abacus"), "'abacus' is unknown"),
    (None, ("--precision", "float3"), "'float3' is unknown"),
    (None, ("--contrast", "5"), "'5' is not 2 numbers"),
    (None, ("--contrast", "9,2"), "ontrast"),
    (None, ("--spacing", "1,0,1"), "positive"),
    (None, ("--start", "4", "--stop", "2"), "range 4 to 2"),
    (None, ("--window", "round"), "invalid choice"),
    (lambda _: {"out": "missing/out.tif"}, (), "missing does not exist"),
    (lambda _: {"out": "out.mp4"}, (), "no known type"),
    (lambda _: {"out": "labels.tif"}, (), "is an input"),
    (None, ("--confidence", "out.tif"), "two results at once"),
]


@pytest.mark.parametrize(("prepare", "options", "sentence"), BAD)
def test_bad_input_is_one_line_and_nothing_is_written(imos, files, prepare, options, sentence):
    changes = (prepare(files) if prepare else None) or {}
    before = {p.name: p.read_bytes() for p in files.iterdir()}
    code, shown = imos(*options, **changes)
    assert code == 2
    assert shown.startswith("imos propagate: ")
    assert len(shown.splitlines()) == 1
    assert sentence in shown
    assert {p.name: p.read_bytes() for p in files.iterdir()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("given", ["image", "out"])
def test_a_link_to_itself_is_said(imos, files, given):
    (files / "circle.tif").symlink_to("circle.tif")
    code, shown = imos(**{given: "circle.tif"})
    assert (code, len(shown.splitlines())) == (2, 1)
    assert "circle.tif is a link that leads back to itself" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="whole paths are short there")
@pytest.mark.parametrize("suffix", [".npy", ".tif", ".nii.gz", ".zarr", ""])
def test_every_name_that_a_file_can_have_is_an_output(imos, files, suffix):
    before = names(files)
    out = "ä" * ((255 - len(suffix)) // 2) + suffix  # 255 bytes, or one less
    assert imos("--quiet", "--checkpoint-every", "1", out=out) == (0, "")
    assert sorted(names(files)) == sorted([*before, out])


def test_adapt_refuses_a_name_before_it_tunes(imos, files, capfd):
    out = "a" * 244 + ".safetensors"
    assert main(["adapt", "image.tif", "labels.tif", "-o", out]) == 2
    assert "argument -o/--output: The name" in capfd.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"notes of mine"])
def test_adapt_replaces_no_model(imos, files, capfd, content):
    path = files / "mine.safetensors"
    if content is None:
        save_weights(tiny_model(), path)
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    # said before anything is read
    assert main(["adapt", "none.tif", "labels.tif", "-o", str(path), "--model", str(path)]) == 2
    assert "is no adapter, and would be overwritten" in capfd.readouterr().err
    with pytest.raises(FileError, match="is no adapter"):
        save_adapter({}, tiny_model(), path)
    assert path.read_bytes() == before


def test_a_folder_that_may_not_be_written(imos, files, monkeypatch):
    monkeypatch.setattr(io.os, "access", lambda path, mode: False)
    code, shown = imos()
    assert code == 2
    assert "may not be written" in shown


def test_a_file_that_may_not_be_read(imos, monkeypatch):
    def refuse(path, time, *, series):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tiff, "read", refuse)
    code, shown = imos()
    assert code == 2
    assert "permissions" in shown


class TestOldOutputStays:
    @pytest.fixture
    def old(self, files):
        (files / "out.tif").write_bytes(b"the result of last week")
        return files / "out.tif"

    def test_disk_full(self, imos, files, old, monkeypatch):
        def full(path, array, like):
            path.write_bytes(b"half of")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setitem(io._WRITERS, "tiff", full)
        code, shown = imos("--quiet")
        assert code == 2
        assert "no space left on device" in shown
        assert len(shown.splitlines()) == 1
        assert old.read_bytes() == b"the result of last week"
        assert names(files) == ["image.tif", "labels.tif", "out.tif"]

    def test_interrupted_while_writing(self, imos, files, old, monkeypatch):
        def stopped(path, array, like):
            path.write_bytes(b"half of")
            raise KeyboardInterrupt

        monkeypatch.setitem(io._WRITERS, "tiff", stopped)
        assert imos("--quiet") == (130, "imos propagate: interrupted; nothing was written.\n")
        assert old.read_bytes() == b"the result of last week"
        assert names(files) == ["image.tif", "labels.tif", "out.tif"]

    def test_interrupted_while_computing(self, imos, files, old, monkeypatch):
        def stopped(slices, total, *, done, quiet):
            yield next(slices)
            raise KeyboardInterrupt

        monkeypatch.setattr(command_output, "with_progress", stopped)
        assert imos("--quiet")[0] == 130
        assert old.read_bytes() == b"the result of last week"


class TestDemo:
    def test_writes_labels_and_picture_and_prints_scores(self, tmp_path, model, capfd):
        folder = tmp_path / "made" / "here"
        assert main(["demo", "--out", str(folder), "--model", model, "--quiet"]) == 0
        assert names(folder) == ["labels.tif", "overview.png"]
        out = capfd.readouterr().out
        for word in ("J", "F", "J&F", "mean", "slices/s"):
            assert word in out
        labels = read_volume(folder / "labels.tif")
        assert labels.array.shape == samples.load_sample().labels.shape
        assert labels.spacing == pytest.approx(samples.load_sample().spacing)

    @pytest.fixture
    def short(self, monkeypatch):
        sample, part = samples.load_sample(), slice(9, 12)
        short = replace(
            sample, image=sample.image[part], labels=sample.labels[part], prompt_slice=1
        )
        monkeypatch.setattr(samples, "load_sample", lambda: short)

    def test_replaces_nothing_but_itself(self, tmp_path, model, short, capfd):
        call = ["demo", "--out", str(tmp_path), "--model", model, "--quiet"]
        assert main(call) == main(call) == 0
        for name in ("labels.tif", "overview.png"):
            theirs = tmp_path / name
            ours = theirs.read_bytes()
            write_labels(tmp_path / "labels.tif", np.ones((3, 5, 5), np.uint8))
            if name == "overview.png":
                Image.new("L", (5, 5)).save(theirs)
            before = theirs.read_bytes()
            assert main(call) == 2
            said = capfd.readouterr().err
            assert "labels.tif exists and is not, as it is, what this version of imos" in said
            assert "or remove labels.tif and overview.png from this one" in said
            assert theirs.read_bytes() == before != ours

    def test_is_repeated_after_an_interruption(self, tmp_path, model, short, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        call = ["demo", "--out", str(tmp_path), "--model", model, "--quiet"]
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "save", interrupted)
            assert main(call) == 130
        assert main(call) == 0
        (tmp_path / "labels.tif").unlink()  # interrupted between the two
        assert main(call) == 0
        assert names(tmp_path) == ["labels.tif", "overview.png"]

    def test_folder_that_is_a_file(self, tmp_path, capfd):
        (tmp_path / "demo").write_text("")
        assert main(["demo", "--out", str(tmp_path / "demo")]) == 2
        assert len(capfd.readouterr().err.splitlines()) == 1


class TestEvaluate:
    @pytest.fixture
    def pair(self, tmp_path, disc):
        truth = disc[1]
        write_labels(tmp_path / "truth.tif", truth, Volume(truth, SPACING))
        prediction = truth.copy()
        prediction[0] = 0
        write_labels(tmp_path / "prediction.tif", prediction)
        return ["evaluate", str(tmp_path / "prediction.tif"), str(tmp_path / "truth.tif")]

    def test_two_files(self, pair, capfd):
        assert main([*pair, "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        (first,) = found["objects"]
        assert first["label"] == 1
        assert first["j"] == pytest.approx(1 - 1 / SLICES)
        assert found["mean"]["j_and_f"] == pytest.approx(1 - 1 / SLICES)
        assert found["mean"]["surface_distance"] > 0

    def test_slices_that_do_not_count(self, pair, capfd):
        assert main([*pair, "--json", "--anchors", "0"]) == 0
        assert json.loads(capfd.readouterr().out)["mean"]["j"] == 1

    def test_surfaces_keep_the_slices_that_do_not_count(self, tmp_path, pair, capfd):
        truth, prediction = np.zeros((2, 8, 12, 12), np.uint8)
        truth[1:4, 3:9, 3:9] = 1
        prediction[1:3, 3:9, 3:9] = prediction[5:7, 3:9, 3:9] = 1  # slice 4 was painted: nothing
        for name, labels in (("truth", truth), ("prediction", prediction)):
            write_labels(tmp_path / f"{name}.tif", labels, Volume(labels, (10.0, 1, 1)))
        found = []
        for more in ([], ["--anchors", "4"]):
            assert main([*pair, "--json", *more]) == 0
            found.append(json.loads(capfd.readouterr().out)["mean"])
        assert found[0]["surface_distance"] == found[1]["surface_distance"]
        assert found[0]["j"] > found[1]["j"]

    def test_labels_below_0_are_background(self, tmp_path, disc, pair, capfd):
        assert main([*pair, "--json"]) == 0
        scores = capfd.readouterr().out
        for name in ("truth", "prediction"):
            labels = read_volume(tmp_path / f"{name}.tif")
            array = labels.array.astype(np.int16)
            array[:, 0] = -1 if name == "truth" else -2
            write_labels(tmp_path / f"{name}.tif", array, labels)
        assert main([*pair, "--json"]) == 0
        out, err = capfd.readouterr()
        assert out == scores
        assert err == "imos evaluate: not scored, as they are background: -2, -1\n"

    @pytest.mark.parametrize("program", [False, True])
    def test_objects_on_no_slice_that_counts_are_said(self, tmp_path, disc, pair, capfd, program):
        truth = disc[1].copy()
        truth[0, 0, 0] = 5
        write_labels(tmp_path / "truth.tif", truth, Volume(truth, SPACING))
        assert main([*pair, "--anchors", "0", *["--json"] * program]) == 0
        out, err = capfd.readouterr()
        said = "not scored, as they are only on slices that do not count: 5\n"
        assert (err == f"imos evaluate: {said}") if program else out.endswith(f"\n{said}")

    def test_a_time_point_needs_a_file_that_has_some(self, tmp_path, pair, disc, capfd):
        assert main([*pair, "--time", "1"]) == 2
        assert "has no time points" in capfd.readouterr().err
        series = np.stack([np.zeros_like(disc[1]), disc[1]])
        tifffile.imwrite(tmp_path / "series.tif", series, metadata={"axes": "TZYX"})
        assert main([*pair[:2], str(tmp_path / "series.tif"), "--time", "1", "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert found["mean"]["j"] == pytest.approx(1 - 1 / SLICES)

    def test_table(self, pair, capfd):
        assert main(pair) == 0
        lines = capfd.readouterr().out.splitlines()
        assert lines[0].split() == ["object", "J", "F", "J&F", "Dice", "distance"]
        assert [line.split()[0] for line in lines[1:]] == ["1", "mean"]

    def test_an_object_that_was_missed_has_no_distance(self, tmp_path, disc, pair, capfd):
        truth = disc[1].copy()
        truth[:, :3, :3] = 7
        truth[truth == 1] = 9
        write_labels(tmp_path / "truth.tif", truth, Volume(truth, SPACING))
        write_labels(tmp_path / "prediction.tif", np.where(truth == 9, 9, 0).astype(np.uint8))
        assert main(pair) == 0
        rows = [line.split() for line in capfd.readouterr().out.splitlines()]
        assert [(row[0], row[-1]) for row in rows[1:]] == [
            ("7", "-"),
            ("9", "0.000"),
            ("mean", "-"),
        ]

    def test_what_is_not_scored_is_said(self, tmp_path, disc, pair, capfd):
        more = disc[1].copy()
        more[:, 0, :12] = np.arange(7, 19)
        write_labels(tmp_path / "prediction.tif", more)
        assert main(pair) == 0
        last = capfd.readouterr().out.splitlines()[-1]
        assert last.endswith("not in the truth: 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, ...")

    def test_a_time_point_of_a_series(self, tmp_path, disc, capfd):
        series = np.stack([np.zeros_like(disc[1]), disc[1]])
        tifffile.imwrite(tmp_path / "series.tif", series, imagej=True, metadata={"axes": "TZYX"})
        command = ["evaluate", *[str(tmp_path / "series.tif")] * 2]
        assert main(command) == 2
        assert "--time" in capfd.readouterr().err
        assert main([*command, "--time", "1", "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["mean"]["j"] == 1

    def test_zarr_and_nifti_say_different_things_of_their_axes(self, tmp_path, disc, capfd):
        for name in ("a.zarr", "b.zarr", "c.nii.gz"):
            write_labels(tmp_path / name, disc[1], Volume(disc[1], SPACING))
        for one, other in (("a.zarr", "b.zarr"), ("a.zarr", "c.nii.gz"), ("c.nii.gz", "a.zarr")):
            assert main(["evaluate", str(tmp_path / one), str(tmp_path / other), "--json"]) == 0
            assert json.loads(capfd.readouterr().out)["mean"]["j"] == 1

    @pytest.mark.parametrize(
        "option",
        [
            ("--html", "x.html"), ("--csv",), ("--by-hand",), ("--ends",),
            ("--protocol", "first"),
            ("--max-objects", "1"), ("--baseline", "copy"), ("--modalities", "ct"),
            ("--tolerance", "2"),
        ],
    )  # fmt: skip
    def test_options_for_folders(self, pair, capfd, option):
        assert main([*pair, *option]) == 2
        assert f"{option[0]} goes with --data" in capfd.readouterr().err

    @pytest.mark.parametrize(
        "option", [("--axis", "0"), ("--time", "0"), ("--anchors", "1"), ("--spacing", "1,1,1")]
    )
    def test_options_for_two_files(self, tmp_path, capfd, option):
        assert main(["evaluate", "--data", str(tmp_path), *option]) == 2
        assert f"{option[0]} goes with two label files" in capfd.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ([], "Give two label files"),
            (["a.tif"], "Give two label files"),
            (["a.tif", "b.tif"], "does not exist"),
            (["a.tif", "--data", "."], "not both"),
            (["--data", "nowhere"], "No sequences"),
            (["--data", ".", "--json", "--csv"], "not both"),
            (["--data", ".", "--protocol", "annotate", "--csv"], "no CSV"),
        ],
    )
    def test_bad_input(self, tmp_path, monkeypatch, model, capfd, arguments, sentence):
        monkeypatch.chdir(tmp_path)
        more = ["--model", model] if "--data" in arguments else []
        assert main(["evaluate", *arguments, *more]) == 2
        shown = capfd.readouterr().err
        assert sentence in shown
        assert len(shown.splitlines()) == 1

    def test_shapes_differ(self, tmp_path, disc, capfd):
        for name, labels in (("a.npy", disc[1]), ("b.npy", disc[1][1:])):
            np.save(tmp_path / name, labels)
        assert main(["evaluate", str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]) == 2
        assert "shape" in capfd.readouterr().err

    @pytest.mark.parametrize("as_json", [False, True])
    def test_data(self, tmp_path, disc, model, capfd, as_json):
        (tmp_path / "toy").mkdir()
        np.savez(tmp_path / "toy" / "disc.npz", image=disc[0], labels=disc[1])
        arguments = ["evaluate", "--data", str(tmp_path), "--model", model, "--device", "cpu"]
        arguments += ["--protocol", "middle", "--quiet", *(["--json"] if as_json else [])]
        assert main(arguments) == 0
        out = capfd.readouterr().out
        if as_json:
            assert {"tiny", "copy"} <= {r["method"] for r in json.loads(out)}
        else:
            assert "| toy | tiny | 1 |" in out
            assert "slices/s" in out

    def test_sequences_without_objects_are_said(self, tmp_path, disc, model, capfd):
        (tmp_path / "toy").mkdir()
        for name, factor in (("disc", 1), ("empty", 0)):
            np.savez(tmp_path / f"toy/{name}.npz", image=disc[0], labels=factor * disc[1])
        arguments = ["evaluate", "--data", str(tmp_path), "--model", model, "--device", "cpu"]
        assert main([*arguments, "--protocol", "middle", "--quiet", "--baseline", "none"]) == 0
        shown = capfd.readouterr()
        assert "not scored, as no object is in two slices: toy/empty\n" in shown.err
        assert "toy" in shown.out

    @pytest.mark.parametrize(
        "option", [("--model", "a"), ("--device", "cpu"), ("--baseline", "none")]
    )
    def test_options_of_data_are_not_for_two_files(self, capfd, option):
        assert main(["evaluate", "a.npy", "b.npy", *option]) == 2
        assert f"{option[0]} goes with --data" in capfd.readouterr().err


def test_a_demo_without_a_model_makes_no_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--model", "nonsense"]) == 2
    assert "no model named" in capfd.readouterr().err
    assert names(tmp_path) == []


class TestWeights:
    def test_list(self, capfd):
        assert main(["weights", "list"]) == 0
        assert "imos-compact" in capfd.readouterr().out

    def test_info_of_the_embedded_model_is_short(self, capfd):
        assert main(["weights", "info", "imos-compact"]) == 0
        lines = capfd.readouterr().out.splitlines()
        assert any("eight bits" in line and "88 convolutions" in line for line in lines)
        assert not any("activations" in line or "key_encoder" in line for line in lines)

    def test_info_of_a_header_that_is_nothing_but_brackets(self, tmp_path, capfd):
        save_weights(tiny_model(), tmp_path / "a.safetensors", {"note": "[" * 100_000})
        assert main(["weights", "info", str(tmp_path / "a.safetensors")]) == 0
        assert "[[[" in capfd.readouterr().out

    def test_info_of_a_file(self, model, capfd):
        assert main(["weights", "info", model]) == 0
        out = capfd.readouterr().out
        for word in ("sha256", "parameters", "training", '{"minutes": 1}'):
            assert word in out

    def test_names_that_stdout_has_no_letters_for(self, model, tmp_path, monkeypatch):
        """On Windows, files and pipes have those of one part of the world."""
        written = BytesIO()
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, "cp1252", "strict"))
        (tmp_path / "私.safetensors").write_bytes(Path(model).read_bytes())
        assert main(["weights", "info", str(tmp_path / "私.safetensors")]) == 0
        assert "\\u79c1.safetensors" in written.getvalue().decode("cp1252")

    @pytest.mark.parametrize("name", ["nonsense", "missing.safetensors", "m" * 300])
    def test_info_of_nothing(self, name, capfd):
        assert main(["weights", "info", name]) == 2
        assert len(capfd.readouterr().err.splitlines()) == 1


class TestTrain:
    def test_hands_over(self, tmp_path, monkeypatch):
        import imos_core.training.run

        config = tmp_path / "phase.toml"
        config.write_text("minutes = 1")
        seen = {}
        monkeypatch.setattr(
            imos_core.training.run, "main", lambda path, **options: seen.update(options, path=path)
        )
        assert main(["train", str(config), "--minutes", "2", "--device", "cpu"]) == 0
        assert seen == {
            "path": str(config),
            "resume": None,
            "device": "cpu",
            "minutes": 2.0,
            "output": None,
        }

    def test_missing(self, capfd):
        assert main(["train", "missing.toml"]) == 2
        assert "does not exist" in capfd.readouterr().err

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--minutes", "-1"], "not above 0"),
            (["--minutes", "0"], "not above 0"),
            (["--minutes", "inf"], "not above 0"),
            (["--output", "file"], "no folder"),
            (["--resume", "adapter.safetensors"], "is an adapter"),
        ],
    )
    def test_bad_input(self, tmp_path, monkeypatch, capfd, options, sentence):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "phase.toml").write_text('static = "."')
        (tmp_path / "file").touch()
        save_adapter({}, tiny_model(), tmp_path / "adapter.safetensors")
        assert main(["train", "phase.toml", "--device", "cpu", *options]) == 2
        shown = capfd.readouterr().err
        assert sentence in shown
        assert len(shown.splitlines()) == 1

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"minutes = 0", b"minutes = -2.5"])
    def test_bad_configurations(self, tmp_path, capfd, content):
        (tmp_path / "phase.toml").write_bytes(content)
        assert main(["train", str(tmp_path / "phase.toml")]) == 2
        assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "option",
    [
        ("--seconds", "nan"),
        ("--seconds", "inf"),
        ("--minutes", "1e308"),
        ("--seed", "-1"),
        ("--seed", "9" * 23),
    ],
)
def test_numbers_that_adapt_cannot_use(capfd, option):
    assert main(["adapt", "a.tif", "b.tif", "-o", "c.safetensors", *option]) == 2
    shown = capfd.readouterr().err
    assert option[1] in shown
    assert len(shown.splitlines()) == 1


def test_usage(capfd):
    assert main(["--help"]) == 0
    assert "propagate" in capfd.readouterr().out
    for arguments in ([], ["fly"], ["propagate"], ["propagate", "a", "b", "-o", "c", "--fly"]):
        assert main(arguments) == 2
        shown = capfd.readouterr().err
        assert len(shown.splitlines()) == 1
        assert "--help" in shown
    assert shown == "imos propagate: unrecognized arguments: --fly (see imos propagate --help).\n"


def test_the_help_of_batch_names_all_columns(capfd):
    assert main(["batch", "--help"]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "columns image, labels, output and any of: confidence," in shown
    assert "ended, fill_anchors, stop_when_gone, spacing" in shown


def test_lists_have_commas_or_spaces_as_in_a_table():
    assert [integers(text) for text in ("12,40", "12 40")] == [[12, 40]] * 2
    assert spacing("2.5 0.8, 0.8") == (2.5, 0.8, 0.8)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("redirected", "code", "words"),
    [
        ("weights list > /dev/full", 2, "imos weights: stdout cannot be written: no space left"),
        ("propagate --help > /dev/full", 2, "imos: stdout cannot be written: no space left"),
        ("--version > /dev/full", 2, "imos: stdout cannot be written: no space left"),
        ("--help >&-", 0, ""),
        ("propagate --help | true", 0, ""),
        ("weights list >&-", 0, ""),
        ("weights nothing 2>&-", 2, ""),
        ("weights list | true", 0, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_takes_what_is_said(redirected, code, words, unbuffered):
    shell = f'set -o pipefail; "{sys.executable}" -m imos_core {redirected}'
    source = str(Path(command_output.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONUNBUFFERED": unbuffered}
    result = subprocess.run(
        ["bash", "-c", shell], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == code
    assert result.stderr.startswith(words)
    assert result.stderr.count("\n") == bool(words)


def test_help_is_quick():
    source = str(Path(__file__).parents[2] / "src")
    code = (
        f"import sys; sys.path.insert(0, {source!r}); from imos_core.cli import main; "
        "main(['propagate', '--help']); "
        "sys.exit(' '.join({'torch', 'numpy', 'napari'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.strip() == ""
    assert "--anchors" in result.stdout


def test_as_a_module():
    run = [sys.executable, "-m", "imos_core", "--version"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("imos ")
