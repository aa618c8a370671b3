"""Images from files: what may not be written there, and what a session notes of them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from npe2 import PluginManifest
from PIL import Image
from qtpy.QtWidgets import QFileDialog
from test_widget import click, open_widget  # noqa: F401

from imos_core.cli import main
from imos_core.io import read_volume
from napari_imos import propagate
from napari_imos._file_axes import name_axes
from napari_imos._image_file import file_on_record, folder_of_frames, is_among_frames
from napari_imos._new_labels import add_labels_for
from napari_imos._saved.session import save_session


@pytest.fixture
def builtin(npe2pm):
    """napari's own reader."""
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_distribution("napari")):
        yield


def frames_in(folder, suffix, planes):
    """Write a folder of frames; their files."""
    folder.mkdir()
    files = [folder / f"{k}{suffix}" for k in range(len(planes))]
    for file, plane in zip(files, planes, strict=True):
        Image.fromarray(plane).save(file)
    return files


def film(count=6):
    """A disc that moves over noise, in red and in blue, and where it is."""
    t, y, x = np.ogrid[:count, :64, :72]
    disc = (y - 30 - t) ** 2 + (x - 28) ** 2 < 120
    noise = np.random.default_rng(0).normal(0, 6, (count, 64, 72, 3))
    lit = np.array([90, 0, -60]) * disc[..., None]
    return (90 + lit + noise).clip(0, 255).astype(np.uint8), disc


def painted_on(viewer, labels, disc, k=2):
    labels.data[k] = 3 * disc[k]
    labels.refresh()
    viewer.dims.set_point(0, k)


def test_split_channels_are_known_by_their_file(tmp_path, builtin):
    pixels, disc = film()
    path = tmp_path / "film.tif"
    metadata = {"axes": "TCYX", "mode": "composite", "finterval": 0.5}
    tifffile.imwrite(path, np.moveaxis(pixels, -1, 1), imagej=True, metadata=metadata)
    viewer = ViewerModel()
    (image,) = viewer.open(path, plugin="napari")
    name_axes(image)
    labels = add_labels_for(viewer, image)
    third = viewer.layers[2]
    assert third.data.shape == disc.shape
    painted_on(viewer, labels, disc)
    propagate(third, labels, precision="float32", device="cpu")
    assert (labels.data == 3).any((1, 2)).all()
    save_session(labels, tmp_path / "labels.tif")
    assert read_volume(tmp_path / "labels.tif").interval == (0.5, "second")
    out = tmp_path / "again.tif"
    for named in ([], [str(path)]):
        session = [str(tmp_path / "labels.tif"), *named]
        assert main(["rerun", *session, "-o", str(out), "--quiet"]) == 0
        np.testing.assert_array_equal(tifffile.imread(out), labels.data)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("known", [True, False])
def test_a_stack_of_files_is_known_by_their_folder(tmp_path, builtin, capsys, suffix, known):
    pixels, disc = film(12)
    files = frames_in(tmp_path / "frames", suffix, pixels)
    if not known:  # as text is sorted: 0, 1, 10, 11, 2, ...
        files = sorted(files)
    viewer = ViewerModel()
    (image,) = viewer.open(files, plugin="napari", stack=True)
    labels = viewer.add_labels(np.zeros(disc.shape, np.uint8))
    painted_on(viewer, labels, disc)
    propagate(image, labels, stop=4, precision="float32", device="cpu")
    save_session(labels, tmp_path / "labels.tif")
    out = tmp_path / "again.tif"
    code = main(["rerun", str(tmp_path / "labels.tif"), "-o", str(out), "--quiet"])
    if known:
        assert code == 0
        np.testing.assert_array_equal(tifffile.imread(out), labels.data)
    else:
        said = "does not know where its image is: name it after the session"
        assert (code, said in capsys.readouterr().err) == (2, True)


def test_a_folder_that_holds_more_is_not_that_of_a_stack(tmp_path, builtin):
    pixels, _ = film()
    files = frames_in(tmp_path / "frames", ".png", pixels)
    (image,) = ViewerModel().open(files, plugin="napari", stack=True)
    assert file_on_record(image) == str(tmp_path / "frames")
    Image.fromarray(pixels[0]).save(tmp_path / "frames" / "other.png")
    assert file_on_record(image) == ""


@pytest.mark.parametrize("depth", [1, 6])
def test_axes_of_length_1_that_a_reader_adds_make_no_stack(tmp_path, npe2pm, depth):
    (tmp_path / "frames").mkdir()
    files = [tmp_path / "frames" / f"{k}.tif" for k in range(3)]
    for file in files:
        tifffile.imwrite(file, np.zeros((depth, 16, 18), np.uint8), metadata={"axes": "ZYX"})

    def read(paths):
        paths = [paths] if isinstance(paths, str) else paths
        planes = [tifffile.imread(path).reshape(1, depth, 16, 18) for path in paths]
        return [(np.stack(planes), {}, "image")]

    with npe2pm.tmp_plugin(name="other") as other:

        @other.contribute.reader(filename_patterns=["*.tif"])
        def reader(path):
            return read

        (one,) = ViewerModel().open(files[0], plugin="other")
        (stack,) = ViewerModel().open(files, plugin="other", stack=True)
    new = tmp_path / "frames" / "labels.tif"
    assert (one.ndim, stack.ndim) == (5, 5)
    assert file_on_record(one) == str(files[0])
    assert not is_among_frames(new, one)
    assert folder_of_frames(stack) == tmp_path / "frames"
    assert is_among_frames(new, stack)


def test_split_channels_of_no_file(tmp_path):
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((6, 3, 8, 9), np.uint8), axis_labels=[*"tcyx"])
    add_labels_for(viewer, image)
    assert [layer.metadata for layer in viewer.layers] == [{}] * 4


@pytest.mark.parametrize("spelt", [False, True])
def test_saving_replaces_no_image_whose_channels_were_split(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    tmp_path,
    monkeypatch,
    builtin,
    spell_anew,
    spelt,
):
    viewer, _, _, widget = open_widget()
    path = tmp_path / "film.tif"
    pixels = np.zeros((12, 3, 20, 24), np.uint8)
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "TCYX"})
    (image,) = viewer.open(path, plugin="napari")
    add_labels_for(viewer, image)
    before = path.read_bytes()
    target = spell_anew(path) if spelt else path
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(target), ""))
    click(qtbot, widget.saving.save)
    assert "which would be overwritten" in widget.status.value
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("stack", [False, True])
def test_saving_changes_no_folder_of_frames(
    qtbot,
    engine,
    open_widget,  # noqa: F811
    tmp_path,
    monkeypatch,
    builtin,
    suffix,
    stack,
):
    viewer, _, _, widget = open_widget()
    folder = tmp_path / "frames"
    files = frames_in(folder, suffix, np.zeros((12, 16, 24, 3), np.uint8))
    given = {"path": files, "stack": True} if stack else {"path": folder}
    (layer,) = viewer.open(**given, plugin="napari", layer_type="image", name="f")
    assert layer.data.shape == (12, 16, 24, 3)
    before = {file: file.read_bytes() for file in files}
    elsewhere = tmp_path / "labels.tif"
    for path in (folder / "5.tif", folder / "new.tif", elsewhere):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, to=path, **k: (str(to), ""))
        click(qtbot, widget.saving.save)
        if path == elsewhere:
            assert widget.status.value.startswith("Saved labels.tif")
        else:
            assert widget.status.value == (
                f"{path.name} would lie among the frames of the image 'f': choose another folder."
            )
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
