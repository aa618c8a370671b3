"""Images from files: what may not be written there, and what a session notes of them."""

from __future__ import annotations

import numpy as np
import pytest
from npe2 import PluginManifest
from PIL import Image
from qtpy.QtWidgets import QFileDialog
from test_widget import click, open_widget  # noqa: F401


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
