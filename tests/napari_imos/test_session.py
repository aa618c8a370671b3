"""Saving and going on another day."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image
from napari.layers._source import layer_source
from test_ledger import WALK, anchors, kinds, run, scene  # noqa: F401

import napari_imos
from imos_core.errors import FileError
from imos_core.files.sidecar import read_sidecar, sidecar_of
from imos_core.io import read_labels
from napari_imos._placed import saved_place
from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import checksum
from napari_imos._record.said import toggle_checked
from napari_imos._saved.session import restore, save_session


@pytest.fixture
def saved(scene, engine, tmp_path):  # noqa: F811
    """A layer with every kind of slice, and its file."""
    _, _, labels = scene
    run(scene, engine)
    labels.data[8, 0, 0] = 1
    labels.data[2:4, 0, 0] = 9  # on slices beside each other: no prompt
    labels.data[11][labels.data[11] == 2] = 0
    labels.data[1] = 0
    toggle_checked(Ledger.of(labels), labels, WALK, 10)
    assert kinds(labels) == "pcpppdppcpkc"
    save_session(labels, tmp_path / "labels.tif")
    return labels, tmp_path / "labels.tif"


def reopen(path):
    return ViewerModel().add_labels(np.array(read_labels(path).array))


def test_anchors_and_kinds_survive(saved, engine):
    labels, path = saved
    again = reopen(path)
    np.testing.assert_array_equal(again.data, labels.data)
    assert restore(again, path) == 0
    assert kinds(again) == kinds(labels)
    assert anchors(again) == anchors(labels) == [1, 5, 8, 10, 11]
    record = Ledger.of(again).record(again, WALK)
    assert record.confidence[7] == pytest.approx(0.9, abs=1e-3)
    assert record.runs[0]["labels"] == [1, 2]
    assert again.metadata["imos"]["walks"][0]["anchors"] == [1, 5, 8, 10, 11]
    assert json.loads(json.dumps(again.metadata["imos"])) == again.metadata["imos"]


def test_of_a_corrected_slice_the_same_voxels_are_a_persons(saved, engine):
    labels, path = saved
    ours = [Ledger.of(labels).ours(WALK.at(k), labels.data[k]) for k in (8, 11)]
    assert all(part.sum() > 0 for part in ours)
    again = reopen(path)
    restore(again, path)
    known = [Ledger.of(again).ours(WALK.at(k), again.data[k]) for k in (8, 11)]
    np.testing.assert_array_equal(known, ours)
    assert Ledger.of(again).absent(again, WALK, 11) == {2}


def test_voxels_of_a_label_that_was_there_before_stay_a_persons(engine, volume, painted, tmp_path):
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume), viewer.add_labels(painted)
    labels.data[7:10, 15:18, 0:3] = 1  # as what came from elsewhere
    viewer.dims.set_point(0, 5)
    run((viewer, image, labels), engine, anchors=[5])
    ledger, path = Ledger.of(labels), tmp_path / "labels.npy"
    ours = [ledger.ours(WALK.at(k), labels.data[k]) for k in range(12)]
    assert ours[8].any()
    assert not ours[8][15:18].any()
    save_session(labels, path)
    again = reopen(path)
    assert restore(again, path) == 0
    known = [Ledger.of(again).ours(WALK.at(k), again.data[k]) for k in range(12)]
    np.testing.assert_array_equal(known, ours)
    assert kinds(again) == kinds(labels)
    record = json.loads(sidecar_of(path).read_text())
    shared = record["walks"][0]["shared"]
    assert sorted(shared) == ["7", "8", "9"]
    for text in ("?", "", 5, shared["8"][:8], "eJwDAAAAAAE="):
        record["walks"][0]["shared"] = {"8": text}
        sidecar_of(path).write_text(json.dumps(record))
        with pytest.raises(FileError, match="damaged"):
            restore(reopen(path), path)


@pytest.mark.parametrize("block", [1 << 32, 9 << 32])
def test_ids_that_share_their_lower_half_are_others(engine, volume, painted, tmp_path, block):
    viewer = ViewerModel()
    image = viewer.add_image(volume)
    labels = viewer.add_labels(np.where(painted, painted.astype(np.int64) + (7 << 32), 0))
    viewer.dims.set_point(0, 5)
    run((viewer, image, labels), engine)
    save_session(labels, tmp_path / "labels.npy")
    again = reopen(tmp_path / "labels.npy")
    assert restore(again, tmp_path / "labels.npy") == 0
    again.data[8][again.data[8] == (7 << 32) + 1] = block + 1
    assert restore(again, tmp_path / "labels.npy") == 1
    assert kinds(again)[8] == "c"


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
@pytest.mark.parametrize(("least", "known"), [(0, 3058830161), (-3, 4152747338)])
def test_checksums_are_those_of_earlier_versions(dtype, least, known):
    plane = np.arange(least, 12, dtype=dtype).reshape(3, -1)
    assert checksum(plane) == known
    assert checksum(plane.T) != checksum(plane)


def test_where_only_the_labels_can_be_saved_it_says_so_and_leaves_nothing_half(
    saved, tmp_path, monkeypatch
):
    labels, path = saved
    before = sidecar_of(path).read_text()
    labels.data[0, 0, 0] = 1

    def full(*given, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(FileError) as refused:
            save_session(labels, path)
    assert str(refused.value) == (
        f"The labels are saved, but what every slice is, is not: {sidecar_of(path)} cannot be "
        "written: no space left on device."
    )
    np.testing.assert_array_equal(read_labels(path).array, labels.data)
    assert sidecar_of(path).read_text() == before
    assert sorted(tmp_path.iterdir()) == [path, sidecar_of(path)]


def test_the_loop_goes_on(saved, engine, volume):
    _labels, path = saved
    again = reopen(path)
    restore(again, path)
    viewer = ViewerModel()
    image = viewer.add_image(volume)
    viewer.add_layer(again)
    viewer.dims.set_point(0, 3)
    kept = again.data[[1, 5, 8, 10, 11]].copy()
    again.data[3, 18:20, 0:4] = 1
    run((viewer, image, again), engine)
    now = again.data[[1, 5, 8, 10, 11]]
    # 9 was painted on slice 2 when these were known: it is filled in
    np.testing.assert_array_equal(np.where(kept == 0, now * (now != 9), now), kept)
    assert (again.data[2, 18:20, 0:4] == 1).any(), "predicted slices are ours again"
    assert again.data[2, 0, 0] == 9, "other paint on them is not"
    assert Ledger.of(again).absent(again, WALK, 11) == {2}


def test_scripts_go_on_with_the_session_beside_a_file_too(saved, engine, volume):
    _, path = saved
    with layer_source(path=str(path)):
        again = reopen(path)
    image = Image(volume)
    napari_imos.propagate(image, again, progress=False)
    assert sorted(engine.calls[-1]["prompts"]) == [1, 5, 8, 10, 11]
    again.metadata.pop("napari-imos")
    napari_imos.propagate(image, again, anchors=[5], progress=False)
    assert len(Ledger.of(again).record(again, WALK).runs) == 1, "forgotten is forgotten"


def test_scripts_hear_of_a_session_that_does_not_serve(saved, engine, volume):
    _, path = saved
    count = len(engine.calls)
    with layer_source(path=str(path)):
        part = ViewerModel().add_labels(np.array(read_labels(path).array)[:8])
    with pytest.raises(FileError, match=r"^The session is of labels with shape \(12, 20, 24\)"):
        napari_imos.propagate(Image(volume[:8]), part, progress=False)
    assert len(engine.calls) == count


def test_a_layer_lies_where_it_lay_if_its_file_does_not_say(saved):
    labels, path = saved
    labels.scale, labels.translate = (2, 0.5, 0.5), (1, 2, 3)
    labels.units, labels.axis_labels = ("um", "um", "um"), ("z", "y", "x")
    affine = np.diag([3.0, 1, 1, 1])
    affine[1, 3] = 7
    labels.affine = affine
    save_session(labels, path)
    again = reopen(path)
    restore(again, path)
    np.testing.assert_allclose(again.scale, labels.scale)
    np.testing.assert_allclose(again.translate, labels.translate)
    np.testing.assert_allclose(again.affine.affine_matrix, affine)
    assert again.units == labels.units
    assert again.axis_labels == labels.axis_labels
    # who says something else knows better
    moved = reopen(path)
    moved.scale = (3, 1, 1)
    restore(moved, path)
    np.testing.assert_allclose(moved.scale, (3, 1, 1))
    np.testing.assert_allclose(moved.translate, 0)


def test_slices_changed_elsewhere_count_as_corrected(saved):
    _, path = saved
    again = reopen(path)
    again.data[6, 10:12, 0:2] = 1
    again.data[10, 0, 0] = 1
    assert restore(again, path) == 2
    assert kinds(again)[6] == "c"
    assert 6 in anchors(again)


def test_files_that_do_not_serve(saved, tmp_path):
    labels, path = saved
    with pytest.raises(FileError, match="shape"):
        restore(ViewerModel().add_labels(np.zeros((3, 4, 5), int)), path)
    sidecar_of(path).write_text("{}")
    with pytest.raises(FileError, match="no session"):
        read_sidecar(path)
    sidecar_of(path).write_text("{")
    with pytest.raises(FileError, match="damaged"):
        read_sidecar(path)
    with pytest.raises(FileError, match=r"other.tif has no record other.tif.imos.json beside it"):
        read_sidecar(tmp_path / "other.tif")
    with pytest.raises(FileError):
        save_session(labels, tmp_path / "nowhere" / "labels.tif")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", "large"),
        ("scale", [1, 0, 1]),
        ("scale", [1, float("inf"), 1]),
        ("translate", [1, 2]),
        ("translate", [10**400, 0, 0]),
        ("rotate", [[0] * 3] * 3),
        ("shear", [[1, 1, 0], [1, 1, 0], [0, 0, 1]]),
        ("affine", [[0] * 4] * 4),
        ("units", ["cubit("] * 3),
        ("axis_labels", 5),
    ],
)
def test_a_place_that_is_none_is_left_out_and_said(saved, name, value):
    _, path = saved
    file = sidecar_of(path)
    record = json.loads(file.read_text()) | {name: value}
    file.write_text(json.dumps(record))
    given = saved_place(read_sidecar(path))
    names = {"scale", "translate", "rotate", "shear", "affine", "units", "axis_labels"}
    assert set(given) == names - {name}
    ViewerModel().add_labels(np.zeros((3, 4, 5), int), **given)
    with pytest.raises(FileError, match=f"damaged: it has no usable {name}"):
        restore(reopen(path), path)


def test_a_session_from_before_it_knew_of_affines_serves(saved):
    labels, path = saved
    labels.scale = (2, 1, 1)
    save_session(labels, path)
    file = sidecar_of(path)
    record = json.loads(file.read_text())
    del record["affine"]
    file.write_text(json.dumps(record))
    again = reopen(path)
    restore(again, path)
    np.testing.assert_allclose(again.data_to_world((1, 1, 1)), (2, 1, 1))


@pytest.mark.parametrize("name", ["foreign", "ended", "prompts", "shared", "filled"])
def test_a_session_that_lacks_something_is_damaged(saved, name):
    _, path = saved
    file = sidecar_of(path)
    record = json.loads(file.read_text())
    del record["walks"][0][name]
    file.write_text(json.dumps(record))
    with pytest.raises(FileError, match=f"damaged: '{name}'"):
        restore(reopen(path), path)


def test_numbers_without_end_are_damage(saved):
    _, path = saved
    file = sidecar_of(path)
    record = json.loads(file.read_text())
    record["walks"][0]["axis"] = float("inf")
    file.write_text(json.dumps(record))
    with pytest.raises(FileError, match="damaged"):
        restore(reopen(path), path)


@pytest.fixture(params=["npy", "tif", "zarr"])
def on_disk(request, tmp_path, painted):
    """An array that is a file, and what opens the file again."""
    path = tmp_path / f"labels.{request.param}"
    if request.param == "npy":
        np.save(path, painted)
        return np.load(path, mmap_mode="r+"), path, lambda: np.load(path)
    if request.param == "tif":
        tifffile.imwrite(path, painted)
        return tifffile.memmap(path, mode="r+"), path, lambda: tifffile.imread(path)
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(path, data=painted, chunks=(3, 20, 24))
    return array, path, lambda: np.asarray(zarr.open_array(path, mode="r"))


def test_labels_that_lie_in_the_file_stay_there(on_disk, engine, volume):
    array, path, read = on_disk
    viewer = ViewerModel()
    labels = viewer.add_labels(array)
    run((viewer, viewer.add_image(volume), labels), engine)
    labels.data[8, 0, 0] = 1
    assert save_session(labels, path).is_file()
    # what is painted later is in the file too
    labels.data[9, 0, 0] = 7
    labels.data[9, 0, 0] = 0
    labels.data[3, 0, 0] = 7
    if isinstance(array, np.memmap):
        array.flush()
    np.testing.assert_array_equal(read(), np.asarray(labels.data))
    assert read()[3, 0, 0] == 7
    again = ViewerModel().add_labels(read())
    assert restore(again, path) == 1
    assert kinds(again) == "pppcpdppcppp"


def test_the_file_of_the_layer_may_be_spelt_otherwise(tmp_path, painted, spell_anew):
    path = tmp_path / "labels.npy"
    np.save(path, painted)
    labels = ViewerModel().add_labels(np.load(path, mmap_mode="r+"))
    save_session(labels, spell_anew(path))
    labels.data[9, 0, 0] = 7
    labels.data.flush()
    assert np.load(tmp_path / "Labels.Npy")[9, 0, 0] == 7


def test_a_part_of_a_file_does_not_replace_it(tmp_path, painted):
    path = tmp_path / "series.npy"
    np.save(path, np.stack([painted, painted + 1]))
    labels = ViewerModel().add_labels(np.load(path, mmap_mode="r+")[1])
    with pytest.raises(FileError, match=r"series\.npy holds more than these labels.*another name"):
        save_session(labels, path)
    assert np.load(path).shape == (2, *painted.shape)
    assert save_session(labels, tmp_path / "other.npy").is_file()
    np.testing.assert_array_equal(np.load(tmp_path / "other.npy"), painted + 1)


@pytest.mark.parametrize(("axes", "named"), [(4, r"\.tif, \.zarr or \.npy"), (5, r"\.npy")])
def test_more_axes_say_where_they_can_go(tmp_path, axes, named):
    labels = ViewerModel().add_labels(np.ones((2,) * axes, np.uint8))
    with pytest.raises(FileError, match=f"with {axes} axes are saved as {named}: choose"):
        save_session(labels, tmp_path / "labels.nii.gz")
    for suffix in (".tif", ".zarr", ".npy") if axes == 4 else (".npy",):
        assert save_session(labels, tmp_path / f"labels{suffix}").is_file()


def test_a_private_copy_of_a_file_is_written(tmp_path, painted):
    path = tmp_path / "labels.npy"
    np.save(path, painted)
    labels = ViewerModel().add_labels(np.load(path, mmap_mode="c"))
    labels.data[3, 0, 0] = 7
    save_session(labels, path)
    assert np.load(path)[3, 0, 0] == 7
