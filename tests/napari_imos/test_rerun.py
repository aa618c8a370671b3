"""A session that napari saved is run again by the command line: the same labels come out."""

from __future__ import annotations

import json
import os
import shutil

import napari
import nibabel
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image
from napari.layers._source import layer_source
from zarr_files import write_ome_zarr

from imos_core.cli import main
from imos_core.files.image_marks import content_mark, image_marks
from imos_core.files.saved_jobs import job_from
from imos_core.files.sidecar import sidecar_of
from imos_core.io import read_labels
from napari_imos import propagate
from napari_imos._reader import read
from napari_imos._saved.session import save_session


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with an image, and labels that were painted, propagated, corrected and saved."""
    folder = tmp_path_factory.mktemp("session")
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:10, :72, :80]
    first = (y - 24 - z) ** 2 + (x - 26) ** 2 < 90
    second = (y - 50) ** 2 + (x - 54 + z) ** 2 < 70
    image = (90 + 90 * first - 60 * second + rng.normal(0, 6, first.shape)).clip(0, 255)
    tifffile.imwrite(folder / "image.tif", image.astype(np.uint8))
    viewer = ViewerModel()
    with layer_source(path=str(folder / "image.tif")):
        layer = Image(image.astype(np.uint8), scale=(2, 1, 1), contrast_limits=(5, 220))
    viewer.add_layer(layer)
    painted = np.zeros(image.shape, np.uint16)
    painted[4][first[4]] = 3
    painted[4][second[4]] = 8
    labels = viewer.add_labels(painted, scale=(2, 1, 1))
    viewer.dims.set_point(0, 8)
    propagate(layer, labels, precision="float32", device="cpu")
    once = np.array(labels.data)
    save_session(labels, folder / "once.tif")
    moved = np.nonzero(np.roll(first[8], 2))
    labels.data_setitem((np.full(len(moved[0]), 8), *moved), 3)
    labels.refresh()
    propagate(layer, labels, precision="float32", device="cpu")
    assert len(np.unique(labels.data[0])) == 3
    save_session(labels, folder / "labels.tif")
    return folder, once, np.array(labels.data)


def test_the_same_labels_come_out(saved):
    folder, once, _ = saved
    out = folder / "again.tif"
    assert main(["rerun", str(folder / "once.tif"), "-o", str(out), "--quiet"]) == 0
    np.testing.assert_array_equal(np.asarray(read_labels(out).array), once)


def test_the_labels_that_are_named_are_meant(saved, tmp_path):
    folder, once, _ = saved
    mine = np.where(once == 3, 77, once)
    tifffile.imwrite(tmp_path / "mine.tif", mine)
    shutil.copy(folder / "once.tif.imos.json", tmp_path / "mine.tif.imos.json")
    # renamed together, the record still finds what it is about
    for named in ("mine.tif", "mine.tif.imos.json"):
        assert job_from(tmp_path / named, "out.tif").painted == tmp_path / "mine.tif"
    shutil.copy(folder / "once.tif", tmp_path)
    assert job_from(tmp_path / "mine.tif", "out.tif").painted == tmp_path / "mine.tif"
    assert job_from(tmp_path / "mine.tif.imos.json", "o.tif").painted == tmp_path / "once.tif"


def test_after_a_correction_all_anchors_count_everywhere(saved):
    """What the correction had napari do again is the same; the rest knows of it only now."""
    folder, _, labels = saved
    out = folder / "all.tif"
    assert main(["rerun", str(folder / "labels.tif"), "-o", str(out), "--quiet"]) == 0
    found = np.asarray(read_labels(out).array)
    np.testing.assert_array_equal(found[4:], labels[4:])
    assert len(np.unique(found[0])) == 3


def test_what_the_session_says_of_the_run(saved):
    folder, *_ = saved
    (walk,) = json.loads(sidecar_of(folder / "labels.tif").read_text())["walks"]
    assert walk["anchors"] == [4, 8]
    run = walk["runs"][-1]
    assert run["image_path"] == str(folder / "image.tif")
    assert run["contrast"] == [5, 220]
    assert len(run["sha256"]) == 64


@pytest.fixture
def mirrored(saved, tmp_path):
    """Labels of a session, and an image beside them that lies elsewhere by its affine."""
    folder, once, _ = saved
    pixels = tifffile.imread(folder / "image.tif").T
    nibabel.save(nibabel.Nifti1Image(pixels, np.diag([-1.0, 1, 2, 1])), tmp_path / "image.nii")
    nibabel.save(nibabel.Nifti1Image(once.T, np.diag([1.0, 1, 2, 1])), tmp_path / "once.nii")
    record = json.loads(sidecar_of(folder / "once.tif").read_text())
    sidecar_of(tmp_path / "once.nii").write_text(json.dumps(record | {"labels": "once.nii"}))
    out = tmp_path / "out.tif"
    files = [str(tmp_path / name) for name in ("once.nii", "image.nii")]
    return out, ["rerun", *files, "-o", str(out), "--quiet"]


@pytest.mark.parametrize("known", [True, False])
def test_a_session_knows_better_than_affines(saved, tmp_path, mirrored, known):
    """In napari, labels lay on the image voxel by voxel, whatever their file says of its place."""
    out, command = mirrored
    record = json.loads(sidecar_of(tmp_path / "once.nii").read_text())
    record["images"] = {"moved.nii": content_mark(tmp_path / "image.nii")} if known else {}
    sidecar_of(tmp_path / "once.nii").write_text(json.dumps(record))
    assert main(command) == 0
    np.testing.assert_array_equal(np.asarray(read_labels(out).array), saved[1])


def test_another_image_that_lies_elsewhere_is_refused(saved, mirrored, capsys):
    out, command = mirrored
    assert main(command) == 2
    assert "does not lie where" in capsys.readouterr().err
    assert not out.exists()
    # one that lies there is gone on with
    pixels = tifffile.imread(saved[0] / "image.tif").T
    nibabel.save(nibabel.Nifti1Image(pixels, np.diag([1.0, 1, 2, 1])), command[2])
    assert main(command) == 0
    assert "may differ" in capsys.readouterr().err


def changed(saved, tmp_path, **facts):
    """Copy a session with other facts of its last run."""
    folder, *_ = saved
    record = json.loads(sidecar_of(folder / "labels.tif").read_text())
    record["walks"][0]["runs"][-1].update(facts)
    (tmp_path / "labels.tif").write_bytes((folder / "labels.tif").read_bytes())
    sidecar_of(tmp_path / "labels.tif").write_text(json.dumps(record))
    return tmp_path / "labels.tif"


def test_another_model_is_said(saved, tmp_path, capsys):
    labels = changed(saved, tmp_path, sha256="0" * 64)
    assert main(["rerun", str(labels), "-o", str(tmp_path / "out.tif"), "--quiet"]) == 0
    assert "is not the one that made the labels" in capsys.readouterr().err


def test_another_image_is_said(saved, tmp_path, capsys):
    folder, *_ = saved
    image = tmp_path / "copy.tif"
    rerun = ["rerun", str(folder / "once.tif"), str(image), "-o", str(tmp_path / "out.tif")]
    said = "does not hold what the labels were made from"
    shutil.copy(folder / "image.tif", image)
    os.utime(image, (0, 0))
    assert main([*rerun, "--quiet"]) == 0
    assert said not in capsys.readouterr().err
    with image.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x07")
    assert main([*rerun, "--quiet"]) == 0
    assert said in capsys.readouterr().err


def test_images_that_are_gone_are_not_known(tmp_path):
    gone = [
        str(tmp_path / "a.tif"),
        str(tmp_path / "folder"),
        "https://example.org/a.tif",
        "a.zarr",
    ]
    (tmp_path / "b.tif").write_bytes(b"there")
    runs = [{"image_path": path} for path in [*gone, "", str(tmp_path / "b.tif")]]
    assert list(image_marks([{"runs": runs}])) == [str(tmp_path / "b.tif")]


def test_an_image_that_is_gone_can_be_named(saved, tmp_path, capsys):
    labels = changed(saved, tmp_path, image_path=str(tmp_path / "gone.tif"))
    out = tmp_path / "out.tif"
    assert main(["rerun", str(labels), "-o", str(out)]) == 2
    assert "does not exist: name it after the session" in capsys.readouterr().err
    assert not out.exists()
    image = str(saved[0] / "image.tif")
    assert main(["rerun", str(labels), image, "-o", str(out), "--quiet"]) == 0
    np.testing.assert_array_equal(np.asarray(read_labels(out).array)[4:], saved[2][4:])


def test_channels_are_those_of_the_session(tmp_path):
    """And as bright as what was painted, not as what was found of another object beside it."""
    z, y, x = np.ogrid[:6, :96, :96]
    small = np.hypot(y - 30, x - 30) < 3.5  # less than 0.5 % of a slice
    other = (np.hypot(y - 60, x - 60) < 8) & (z >= 0)
    noise = np.random.default_rng(0).normal(0, 4, other.shape)
    grey = (60 + 50 * other + small * (250 - 30 * z) + noise).clip(0, 400).astype(np.uint16)
    pixels = np.stack([grey, grey[::-1], 400 - grey], axis=1)
    tifffile.imwrite(tmp_path / "image.tif", pixels, imagej=True, metadata={"axes": "ZCYX"})
    with layer_source(path=str(tmp_path / "image.tif")):
        layer = Image(pixels, axis_labels=[*"zcyx"])
    viewer = ViewerModel()
    viewer.add_layer(layer)
    painted = np.zeros(grey.shape, np.uint8)
    painted[1][other[1]] = 1
    painted[4][small[0]] = 2
    labels = viewer.add_labels(painted, axis_labels=[*"zyx"])
    propagate(layer, labels, channels=[0, 2], precision="float32", device="cpu")
    assert (labels.data[1] == 2).any(), "filled in"
    save_session(labels, tmp_path / "labels.tif")
    out = tmp_path / "again.tif"
    assert main(["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--quiet"]) == 0
    np.testing.assert_array_equal(np.asarray(read_labels(out).array), np.asarray(labels.data))


def of_a_part(folder, pixels, place, scale=(1, 1, 1), shape=(8, 60, 64), **more):
    """Save a session of labels that lie elsewhere than their image, after a propagation."""
    viewer = ViewerModel()
    with layer_source(path=str(folder / "image.tif")):
        layer = Image(pixels, **more)
    viewer.add_layer(layer)
    painted = np.zeros(shape, np.uint8)
    painted[3, 15:26, 17:28] = 5
    labels = viewer.add_labels(painted, translate=place, scale=scale)
    options = {"channels": [0, 2]} if pixels.ndim == 4 else {}
    propagate(layer, labels, precision="float32", device="cpu", **options)
    save_session(labels, folder / "labels.tif")
    return np.array(labels.data)


@pytest.mark.parametrize(
    ("place", "scale"),
    [
        ((1, 4, 6), (1, 1, 1)),
        ((5, -8, 30), (1, 1, 1)),  # reaches beyond the image
        ((0, 0.5, 0.5), (1, 2, 2)),
        ((1, 3, 5), (1, 0.8, 0.8)),
    ],
)
def test_labels_of_a_part_or_with_other_voxels(saved, tmp_path, place, scale):
    pixels = tifffile.imread(saved[0] / "image.tif")
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    wanted = of_a_part(tmp_path, pixels, place, scale, contrast_limits=(5, 220))
    assert (wanted != 0).any((1, 2)).sum() > 1
    out = tmp_path / "again.tif"
    assert main(["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--quiet"]) == 0
    found = read_labels(out)
    np.testing.assert_array_equal(np.asarray(found.array), wanted)
    assert found.spacing == pytest.approx(scale)


def test_channels_of_a_part(saved, tmp_path):
    grey = tifffile.imread(saved[0] / "image.tif")
    pixels = np.stack([grey, grey[::-1], 255 - grey])
    tifffile.imwrite(tmp_path / "image.tif", pixels.swapaxes(0, 1), imagej=True,
                     metadata={"axes": "ZCYX"})  # fmt: skip
    wanted = of_a_part(tmp_path, pixels, (1, 4, 6), axis_labels=[*"czyx"])
    out = tmp_path / "again.tif"
    assert main(["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--quiet"]) == 0
    np.testing.assert_array_equal(np.asarray(read_labels(out).array), wanted)


def test_a_part_of_another_image_is_refused(saved, tmp_path, capsys):
    pixels = tifffile.imread(saved[0] / "image.tif")
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    of_a_part(tmp_path, pixels, (1, 4, 6))
    tifffile.imwrite(tmp_path / "other.tif", pixels[:9])
    session, other, out = (str(tmp_path / n) for n in ("labels.tif", "other.tif", "out.tif"))
    assert main(["rerun", session, other, "-o", out]) == 2
    assert "painted on an image of shape (10, 72, 80)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def series(saved, tmp_path_factory):
    """A folder with a series of volumes, propagated at two of three time points, and saved."""
    folder = tmp_path_factory.mktemp("series")
    grey = tifffile.imread(saved[0] / "image.tif")
    pixels = np.stack([grey[::-1], grey, grey[:, ::-1]])
    tifffile.imwrite(folder / "image.tif", pixels, imagej=True, metadata={"axes": "TZYX"})
    viewer = ViewerModel()
    with layer_source(path=str(folder / "image.tif")):
        layer = Image(pixels, scale=(1, 2, 1, 1))
    viewer.add_layer(layer)
    painted = np.zeros(pixels.shape, np.uint8)
    painted[0, 5] = pixels[0, 5] > 150
    painted[1, 4] = 2 * (pixels[1, 4] > 150)
    labels = viewer.add_labels(painted, scale=(1, 2, 1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(napari, "current_viewer", lambda: viewer)
        for time in (0, 1):
            viewer.dims.set_point(0, time)
            propagate(layer, labels, axis=1, precision="float32", device="cpu")
    save_session(labels, folder / "labels.tif")
    return folder, np.array(labels.data)


@pytest.mark.parametrize("time", [0, 1])
def test_a_time_point_of_a_series(series, tmp_path, time):
    folder, labels = series
    out = tmp_path / "again.tif"
    session = str(folder / "labels.tif")
    assert main(["rerun", session, "-o", str(out), "--time", str(time), "--quiet"]) == 0
    found = read_labels(out)
    assert found.spacing == (2, 1, 1)
    assert set(np.unique(found.array[8])) == {0, 1 + time}
    np.testing.assert_array_equal(np.asarray(found.array), labels[time])


def test_a_time_point_of_a_part(series, tmp_path, monkeypatch):
    pixels = tifffile.imread(series[0] / "image.tif")
    viewer = ViewerModel()
    with layer_source(path=str(series[0] / "image.tif")):
        layer = Image(pixels, scale=(1, 2, 1, 1))
    viewer.add_layer(layer)
    painted = np.zeros((3, 7, 60, 70), np.uint8)
    painted[1, 3] = pixels[1, 5, 8:68, 4:74] > 150
    labels = viewer.add_labels(painted, scale=(1, 2, 1, 1), translate=(0, 4, 8, 4))
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    viewer.dims.set_point(0, 1)
    propagate(layer, labels, axis=1, precision="float32", device="cpu")
    save_session(labels, tmp_path / "labels.tif")
    out = tmp_path / "again.tif"
    assert main(["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--quiet"]) == 0
    found = np.asarray(read_labels(out).array)
    assert found[[0, -1]].any((1, 2)).all()
    np.testing.assert_array_equal(found, np.asarray(labels.data)[1])


def test_the_time_point_has_to_be_named(series, tmp_path, capsys):
    session, out = str(series[0] / "labels.tif"), str(tmp_path / "out.tif")
    for given, words in (
        ([], "(axis 1 at time point 0; axis 1 at time point 1): choose one with --time"),
        (["--time", "2"], "Nothing was propagated at time point 2"),
        (["--plane", "2"], "Nothing was propagated at slice 2"),
    ):
        assert main(["rerun", session, "-o", out, *given]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("held", [1, 2])
@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_one_slice_through_time(saved, tmp_path, monkeypatch, held, kind):
    """A film of one slice of the volumes, or of one plane across them."""
    grey = tifffile.imread(saved[0] / "image.tif")[:, 4:-4]
    pixels = np.stack([np.roll(grey, t, axis=2) for t in range(6)])
    path = tmp_path / f"image.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "TZYX"})
    else:
        np.save(path, pixels)
    viewer = ViewerModel()
    with layer_source(path=str(path)):
        layer = Image(pixels, scale=(5, 2, 1, 1))
    viewer.add_layer(layer)
    painted = np.zeros(pixels.shape, np.uint8)
    place = (4, 22)[held - 1]
    where = (2, *(place if a == held else slice(None) for a in (1, 2)))
    painted[where] = pixels[where] > 150
    labels = viewer.add_labels(painted, scale=(5, 2, 1, 1))
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    # what is shown is the slice that is walked: time goes first, the held axis comes next
    rest = [a for a in (1, 2, 3) if a != held]
    viewer.dims.order = (0, held, *rest)
    viewer.dims.set_current_step((0, held), (2, place))
    propagate(layer, labels, axis=0, precision="float32", device="cpu")
    film = np.array(np.moveaxis(labels.data, held, 0)[place])
    assert film[[0, 5]].any()
    save_session(labels, tmp_path / "labels.tif")
    (walk,) = json.loads(sidecar_of(tmp_path / "labels.tif").read_text())["walks"]
    assert walk["fixed"] == [[held, place]]
    out = tmp_path / "again.tif"
    assert main(["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--quiet"]) == 0
    found = read_labels(out)
    np.testing.assert_array_equal(np.asarray(found.array), film)
    assert found.spacing == ((5, 1, 1) if held == 1 else (5, 2, 1))


@pytest.mark.parametrize(
    "came",
    ["a slice", "a volume", "slices of two time points", "in two channels", "on a part"],
)
def test_a_whole_series(saved, tmp_path, came):
    grey = tifffile.imread(saved[0] / "image.tif")
    pixels = np.stack([np.roll(grey, 2 * t, axis=2) for t in range(4)])
    shown, scale, axes = pixels, (1, 2, 1, 1), "TZYX"
    if came == "in two channels":
        # getting darker with time
        dark = 0.8 ** np.arange(4)[:, None, None, None]
        shown = np.stack([(pixels * dark).astype(np.uint8), 255 - pixels], axis=2)
        scale, axes = (1, 2, 1, 1, 1), "TZCYX"
    tifffile.imwrite(tmp_path / "image.tif", shown, imagej=True, metadata={"axes": axes})
    viewer = ViewerModel()
    with layer_source(path=str(tmp_path / "image.tif")):
        layer = Image(shown, scale=scale, contrast_limits=(5, 220), axis_labels=[*axes.lower()])
    viewer.add_layer(layer)
    painted = np.zeros(pixels.shape, np.uint8)
    where = (1, slice(3, 7)) if came == "a volume" else (1, 5)
    painted[where] = 2 * (pixels[where] > 150)
    if came.endswith("points"):
        painted[3, 2] = 2 * (pixels[3, 2] > 150)
    place = (0, 0, 0, 0)
    if came == "on a part":
        painted, place = painted[:, 1:, 4:, 6:], (0, 2, 4, 6)
    labels = viewer.add_labels(painted, scale=(1, 2, 1, 1), translate=place)
    channels = [0, 1] if came == "in two channels" else None
    keywords = {"channels": channels, "precision": "float32", "device": "cpu"}
    propagate(layer, labels, axis=1, series=0, **keywords)
    assert all((volume == 2).any() for volume in labels.data)
    save_session(labels, tmp_path / "labels.tif")
    out = tmp_path / "again.tif"
    assert main(["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--quiet"]) == 0
    np.testing.assert_array_equal(tifffile.imread(out), labels.data)
    step = ["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--time", "1", "--quiet"]
    assert main(step) == (2 if came == "a volume" else 0), "the time point alone"


def test_a_single_volume_has_no_time_points(saved, tmp_path, capsys):
    session = str(saved[0] / "once.tif")
    assert main(["rerun", session, "-o", str(tmp_path / "out.tif"), "--time", "0"]) == 2
    assert "leave --time out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"image_path": ""}, "does not know where its image is"),
        ({"channels": "0, 2"}, "has no channels"),
        ({"channels": "red, green"}, "made from several images (red, green)"),
        ({"ranges": "all"}, "damaged"),
        ({"ranges": [[0, float("inf")]]}, "damaged"),
        ({"image_path": "a" * 300}, "too long"),
        ({"image_path": "a\0"}, "no name that a file can have"),
        ({"precision": {"a": 1}}, "is unknown"),
        ({"elsewhere": True}, "other voxels than the labels"),
        ({"grid": {"starts": [0, 0, 0]}}, "damaged"),
        ({"adapter": "gone.safetensors"}, "gone.safetensors"),
    ],
)
def test_what_does_not_suffice_is_said(saved, tmp_path, capsys, facts, words):
    labels = changed(saved, tmp_path, **facts)
    assert main(["rerun", str(labels), "-o", str(tmp_path / "out.tif")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.tif").exists()


def test_a_session_of_nothing_but_brackets(saved, tmp_path, capsys):
    labels = changed(saved, tmp_path)
    sidecar_of(labels).write_text("[" * 100_000)
    assert main(["rerun", str(labels), "-o", str(tmp_path / "out.tif")]) == 2
    assert "damaged" in capsys.readouterr().err


def test_sessions_without_a_run(saved, tmp_path, capsys):
    labels = changed(saved, tmp_path)
    file = sidecar_of(labels)
    record = json.loads(file.read_text())
    for axis, words in ((0, "Nothing was propagated in this session"), (2, "damaged")):
        other = (
            {**record, "walks": [{**record["walks"][0], "runs": []}]}
            if axis == 0
            else {**record, "walks": 7}
        )
        file.write_text(json.dumps(other))
        assert main(["rerun", str(labels), "-o", str(tmp_path / "out.tif")]) == 2
        assert words in capsys.readouterr().err
    file.write_text(json.dumps({**record, "shape": [2, 10, 72, 80]}))
    assert main(["rerun", str(labels), "-o", str(tmp_path / "out.tif")]) == 2
    assert "is no time point, and no slice" in capsys.readouterr().err
    file.write_text(json.dumps({**record, "shape": [2, 2, 10, 72, 80]}))
    assert main(["rerun", str(labels), "-o", str(tmp_path / "out.tif")]) == 2
    assert "5 axes" in capsys.readouterr().err
    file.write_text(json.dumps(record))
    assert main(["rerun", str(labels), "-o", str(tmp_path / "out.tif"), "--axis", "1"]) == 2
    assert "leave --axis out" in capsys.readouterr().err
    labels.unlink()
    assert main(["rerun", str(labels), "-o", str(tmp_path / "out.tif")]) == 2
    assert "are gone" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["everything", "one label"])
def test_what_a_person_erased_stays_away(saved, tmp_path, which):
    """An anchor that is empty, or without one label, ends what does not go on behind it."""
    folder, *_ = saved
    image = tifffile.imread(folder / "image.tif")
    viewer = ViewerModel()
    with layer_source(path=str(folder / "image.tif")):
        layer = Image(image)
    viewer.add_layer(layer)
    painted = np.zeros(image.shape, np.uint16)
    painted[2] = tifffile.imread(folder / "labels.tif")[4]
    labels = viewer.add_labels(painted)
    propagate(layer, labels, precision="float32", device="cpu")
    assert set(np.unique(labels.data[8])) == {0, 3, 8}
    erased = labels.data[6] > 0 if which == "everything" else labels.data[6] == 8
    labels.data_setitem((np.full(erased.sum(), 6), *np.nonzero(erased)), 0)
    propagate(layer, labels, precision="float32", device="cpu")
    assert set(np.unique(labels.data[8])) == ({0} if which == "everything" else {0, 3})
    save_session(labels, tmp_path / "labels.tif")
    out = tmp_path / "again.tif"
    assert main(["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--quiet"]) == 0
    found = np.asarray(read_labels(out).array)
    np.testing.assert_array_equal(found[2:], np.asarray(labels.data)[2:])


def test_a_label_that_was_erased_everywhere_is_left_out(saved, tmp_path):
    labels = changed(saved, tmp_path)
    file = sidecar_of(labels)
    record = json.loads(file.read_text())
    record["walks"][0]["runs"][-1]["labels"] = [3, 8, 9]
    record["walks"][0]["absent"] = {"9": [2]}
    file.write_text(json.dumps(record))
    out = tmp_path / "again.tif"
    assert main(["rerun", str(labels), "-o", str(out), "--quiet"]) == 0
    np.testing.assert_array_equal(read_labels(out).array[4:], saved[2][4:])


def test_one_channel_of_a_file(tmp_path):
    z, y, x = np.ogrid[:6, :64, :64]
    ball = (y - 30 - z) ** 2 + (x - 32) ** 2 < 120
    noise = np.random.default_rng(0).normal(0, 6, ball.shape)
    channels = np.stack([np.full(ball.shape, 99), (60 + 120 * ball + noise).clip(0, 255)])
    write_ome_zarr(tmp_path / "image.zarr", channels.astype(np.uint8), "0.5", "czyx")
    ((data, keywords, _),) = read(tmp_path / "image.zarr")
    viewer = ViewerModel()
    with layer_source(path=str(tmp_path / "image.zarr")):
        _, layer = viewer.add_image(data, **keywords)
    labels = viewer.add_labels(np.where(np.arange(6)[:, None, None] == 3, ball, 0).astype("u1"))
    propagate(layer, labels, precision="float32", device="cpu")
    assert labels.data[0].any()
    save_session(labels, tmp_path / "labels.zarr")
    (walk,) = json.loads(sidecar_of(tmp_path / "labels.zarr").read_text())["walks"]
    assert walk["runs"][-1]["channels"] == "1"
    out = tmp_path / "again.zarr"
    assert main(["rerun", str(tmp_path / "labels.zarr"), "-o", str(out), "--quiet"]) == 0
    np.testing.assert_array_equal(np.asarray(read_labels(out).array), labels.data)
