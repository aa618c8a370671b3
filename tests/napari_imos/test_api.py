"""propagate() for arrays and for layers, without Qt."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Labels

import napari_imos
from imos_core.errors import FileError, ImosError, PromptError, PromptWarning
from napari_imos._image_file import FILE
from napari_imos._record.ledger import Ledger
from napari_imos._walk import Walk


def test_arrays_give_a_new_array(engine, volume, painted):
    before = painted.copy()
    result = napari_imos.propagate(volume, painted)
    np.testing.assert_array_equal(painted, before)
    assert result.shape == painted.shape
    assert result.dtype == painted.dtype
    np.testing.assert_array_equal(result, np.broadcast_to(painted[5], painted.shape))
    assert list(engine.calls[0]["prompts"]) == [5]


@pytest.mark.parametrize("axis", [1, -1])
def test_arrays_along_another_axis(engine, volume, painted, axis):
    result = napari_imos.propagate(volume, painted, axis=axis, anchors=[8])
    expected = np.repeat(np.take(painted, [8], axis), painted.shape[axis], axis)
    # label 2 lies on slice 8 of one of the axes only, and stays on the other
    kept = np.isin(painted, [2] if axis == -1 else [])
    np.testing.assert_array_equal(result, np.where(kept, painted, expected))


def test_labels_of_an_array_are_integers(engine, volume, painted):
    unpainted = np.where(painted > 0, painted, np.nan)
    for given in (unpainted, painted.astype(np.float32)):
        with pytest.raises(PromptError, match=r"must be integers, but these are float"):
            napari_imos.propagate(volume, given)
    assert not engine.calls


def test_labels_painted_across_another_axis_are_refused(engine, volume, painted):
    across = np.zeros_like(painted)
    across[2:9, 6, 3:9] = 1  # on slice 6 of axis 1
    viewer = ViewerModel()
    layers = viewer.add_image(volume), viewer.add_labels(across.copy())
    for given in ((volume, across), layers):
        with pytest.raises(PromptError, match=r"slice 6 of axis 1, .* axis 0 are walked"):
            napari_imos.propagate(*given)
    assert napari_imos.propagate(volume, across, axis=1).any(axis=(0, 2)).all()
    # who names the slices means it
    assert napari_imos.propagate(volume, across, anchors=[2, 3, 4]).any(axis=(1, 2)).all()


def test_labels_of_every_slice_leave_nothing_to_do(engine, volume, painted):
    full = np.repeat(painted[5:6], len(painted), 0)
    with pytest.warns(PromptWarning, match=r"All 12 slices .* image and labels swapped\?"):
        result = napari_imos.propagate(volume, full)
    np.testing.assert_array_equal(result, full)
    # who names slices, or a label that is not everywhere, means it
    napari_imos.propagate(volume, full, anchors=[5])
    full[:3][full[:3] == 2] = 0
    napari_imos.propagate(volume, full, ids=2)


@pytest.mark.parametrize("kind", ["arrays", "layers"])
def test_the_bar_can_be_left_out(engine, volume, painted, kind, capfd):
    layers = Image(volume), Labels(painted.copy())
    for shown in (True, False):
        given = (volume, painted) if kind == "arrays" else layers
        napari_imos.propagate(*given, anchors=5, progress=shown)
        assert ("iMOS" in capfd.readouterr().err) is shown


def test_what_is_masked_is_not_painted(engine, volume, painted):
    masked = np.ma.masked_equal(painted, 2)
    result = napari_imos.propagate(volume, masked)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(
        engine.calls[0]["prompts"][5], np.where(painted[5] == 2, 0, painted[5])
    )


def test_every_painted_slice_is_an_anchor(engine, volume, painted):
    painted[9, 15:18, 2:5] = 1
    napari_imos.propagate(volume, painted)
    assert list(engine.calls[0]["prompts"]) == [5, 9]


def test_labels_that_are_not_propagated_stay(engine, volume, painted):
    painted[7, 8:12, 14:18] = 2
    painted[7, 0, 0] = 1
    result = napari_imos.propagate(volume, painted, anchors=[5], ids=[1])
    assert (result[7, 8:12, 14:18] == 2).all()
    assert result[7, 0, 0] == 0, "the propagated label is replaced"
    assert not (result[3] == 2).any()


def test_keywords_reach_the_engine(engine, volume, painted):
    napari_imos.propagate(volume, painted, start=2, stop=8, direction="both", device="cpu")
    assert engine.calls[0]["stop"] == 8
    assert engine.calls[0]["device"] == "cpu"


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"axis": 5}, "Axis 5 is out of range"),
        ({"axis": "z"}, "give its number"),
        ({"anchors": [40]}, "slice 40 is outside"),
        ({"axis": None}, "axis must be a whole number"),
        ({"anchors": "10"}, "anchors must be whole numbers"),
        ({"anchors": []}, "No prompt slice was chosen"),
        ({"ids": []}, "No label was chosen"),
        ({"ids": 1.5}, "ids must be whole numbers"),
        ({"memory": "x"}, "memory must be a MemoryConfig"),
        ({"start": 2.5}, "start must be a whole number"),
        ({"contrast": (5,)}, "contrast must be two numbers"),
        ({"contrast": "auto"}, "contrast must be two numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["arrays", "layers"])
def test_what_does_not_serve(engine, volume, painted, keywords, sentence, kind):
    given: tuple = (volume, painted)
    if kind == "layers":
        given = (Image(volume), Labels(painted))
        sentence = sentence.replace("give its number", "There is no axis 'z'")
    with pytest.raises(ImosError, match=sentence):
        napari_imos.propagate(*given, **keywords)
    assert not engine.calls


@pytest.mark.parametrize("colours", [3, 4])
def test_a_last_axis_that_labels_lack_holds_colours(engine, volume, painted, colours):
    image = np.stack([volume] * colours, -1)
    napari_imos.propagate(image, painted, anchors=5)
    napari_imos.propagate(image, painted, anchors=5, channels_last=False)
    assert [call["channels_last"] for call in engine.calls] == [True, False]


@pytest.mark.parametrize("axis", [0, 2])
def test_arrays_of_different_sizes(engine, volume, painted, axis):
    for image, labels in ((volume, painted[:-1]), (volume[:-1], painted)):
        with pytest.raises(ImosError, match=r"Labels have shape .*: give labels of its size"):
            napari_imos.propagate(image, labels, axis=axis)
    assert not engine.calls


def test_one_anchor_and_one_id_are_lists_of_one(engine, volume, painted):
    k = int(np.flatnonzero(painted.any(axis=(1, 2)))[0])
    one = int(painted[k].max())
    napari_imos.propagate(volume, painted, anchors=k, ids=one)
    napari_imos.propagate(Image(volume), Labels(painted.copy()), anchors=k, ids=one)
    assert [call["labels"] for call in engine.calls] == [[one], (one,)]
    assert [list(call["prompts"]) for call in engine.calls] == [[k], [k]]


def test_a_thread_needs_qt_to_write_slices(tmp_path):
    code = """
import numpy as np
from napari.layers import Image, Labels
from imos_core.errors import PromptError
from napari_imos import start_propagation
labels = np.zeros((3, 8, 8), int)
labels[1, 2:5, 2:5] = 1
try:
    start_propagation(Image(np.zeros((3, 8, 8))), Labels(labels))
except PromptError as error:
    assert "use propagate" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_arrays_need_neither_qt_nor_a_viewer(tmp_path):
    code = """
import sys, numpy as np, imos_core
from types import SimpleNamespace
imos_core.propagate = lambda image, prompts, **k: iter(
    [SimpleNamespace(index=i, labels=prompts[1], source="forward") for i in (0, 2)])
import napari_imos
labels = np.zeros((3, 4, 4), int); labels[1, 1, 1] = 2
assert (napari_imos.propagate(np.zeros((3, 4, 4)), labels)[:, 1, 1] == 2).all()
loaded = {m.split('.')[0] for m in sys.modules} & {'qtpy', 'PySide6', 'PyQt6'}
sys.exit(' '.join(loaded) or 0)
"""
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r})\n{code}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_layers_are_written_in_place_and_one_undo_takes_it_back(engine, volume, painted):
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume), viewer.add_labels(painted)
    before = painted.copy()
    assert napari_imos.propagate(image, labels) is labels
    assert (labels.data[:, 5, 5] == 1).all()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_a_correction_of_layers_that_no_viewer_shows(engine, volume, painted):
    """What a run has written is no prompt of the next one; what was corrected is."""
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume), viewer.add_labels(painted)
    napari_imos.propagate(image, labels)
    labels.data_setitem((np.array([9]), np.array([15]), np.array([20])), 2)
    napari_imos.propagate(image, labels)
    assert [sorted(call["prompts"]) for call in engine.calls] == [[5], [5, 9]]


def of_another(kind, volume, folder):
    """Return the image, and keywords, of two runs that differ in one thing."""
    image = Image(volume)
    if kind == "model":
        models = [torch.nn.Linear(2, 2) for _ in range(2)]
        return tuple((image, {"model": model}) for model in models)
    if kind == "adapter":
        files = [folder / name for name in ("learned", "anew", "mine.safetensors")]
        for file, held in zip(files, (b"1", b"22"), strict=False):
            file.write_bytes(held)

        def learned():
            for file in files[:2]:
                file.replace(files[2])
                yield image, {"adapter": files[2]}

        return learned()
    # the same one, as opened again
    return (image, {}), (Image(volume.astype(">u2"), name="again"), {})


@pytest.mark.parametrize(("kind", "first"), [("model", 0), ("adapter", 0), ("nothing", 6)])
def test_what_another_one_has_made_is_made_anew(engine, volume, painted, tmp_path, kind, first):
    labels = Labels(painted)
    for n, (image, keywords) in enumerate(of_another(kind, volume, tmp_path)):
        if n:
            labels.data_setitem((np.array([9]), np.array([15]), np.array([20])), 2)
        napari_imos.propagate(image, labels, progress=False, **keywords)
    assert (engine.calls[-1]["start"], engine.calls[-1]["stop"]) == (first, 12)
    runs = Ledger.of(labels).record(labels, Walk(3, 0)).runs
    assert all(len(run["model"]) < 50 for run in runs)
    assert len({run["model"] for run in runs}) == (2 if kind == "model" else 1)


def test_layers_keep_what_is_done_when_the_engine_fails(engine, volume, painted):
    viewer = ViewerModel()
    image, labels = viewer.add_image(volume), viewer.add_labels(painted)
    engine.fail_at = 8
    with pytest.raises(RuntimeError):
        napari_imos.propagate(image, labels)
    done = int((labels.data[:, 5, 5] == 1).sum())
    assert 1 < done < 12
    labels.undo()
    assert (labels.data[:, 5, 5] == 1).sum() == 1
    engine.fail_at = None
    napari_imos.propagate(image, labels)
    assert (labels.data[:, 5, 5] == 1).all()


@pytest.mark.parametrize("kind", ["zarr", "dask", "series", "memory"])
def test_an_image_that_goes_while_it_is_read_ends_the_run(
    engine, volume, painted, tmp_path, monkeypatch, kind
):
    if kind == "series":
        volume, painted = np.stack([volume] * 2), np.stack([painted, 0 * painted])
    path = tmp_path / "image.zarr"
    data = zarr.create_array(path, data=volume, chunks=(*(1,) * (volume.ndim - 2), 20, 24))
    if kind == "dask":
        data = da.from_array(data)
    slices = engine._slices

    def losing(*given):
        yield from slices(*given)
        shutil.rmtree(path, ignore_errors=True)

    def run():
        image = Image(volume if kind == "memory" else data, contrast_limits=(0, 200))
        image.metadata[FILE] = str(path) if kind in ("dask", "memory") else ""
        along = {"axis": 1, "series": 0} if kind == "series" else {}
        napari_imos.propagate(image, Labels(painted.copy()), **along)

    run()
    monkeypatch.setattr(engine, "_slices", losing)
    if kind == "memory":
        run()
    else:
        with pytest.raises(FileError, match=r"image\.zarr was replaced or written while it was"):
            run()


def test_a_layer_and_an_array_do_not_mix(volume, painted):
    image = ViewerModel().add_image(volume)
    with pytest.raises(ImosError, match="two arrays"):
        napari_imos.propagate(image, painted)
    with pytest.raises(ImosError, match="takes layers"):
        napari_imos.start_propagation(volume, painted)


@pytest.fixture
def four(volume, painted):
    """A series of six copies of the image, `(6, 12, 20, 24)`, painted at the fourth."""
    labels = np.zeros((6, *painted.shape), np.uint8)
    labels[3] = painted
    return np.stack([volume] * 6), labels


@pytest.mark.parametrize("layers", [True, False])
def test_ends_in_a_series_are_slices_of_every_time_point(engine, four, layers):
    if layers:
        viewer = ViewerModel()
        names = ("t", "z", "y", "x")
        image = viewer.add_image(four[0], axis_labels=names)
        given = viewer.add_labels(four[1], axis_labels=names)
        napari_imos.propagate(image, given, axis="z", series="t", ends={1: [9]})
    else:
        napari_imos.propagate(*four, axis=1, series=0, ends={1: [9]})
    calls = [(call["image"].shape[0], call.get("ends")) for call in engine.calls]
    assert {ends is not None and ends.get(1) == [9] for n, ends in calls if n == 12} == {True}
    assert {ends for n, ends in calls if n == 6} == {None}


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("ends", [{99: [4]}, {"1": [4]}, [4]])
def test_a_slip_in_the_ends_of_a_series_is_told(engine, four, layers, ends):
    given = four
    if layers:
        viewer = ViewerModel()
        given = viewer.add_image(four[0]), viewer.add_labels(four[1])
    with pytest.raises(PromptError, match=r"99 cannot end|of ends must be|Ends are"):
        napari_imos.propagate(*given, axis=1, series=0, ends=ends)
    assert not engine.calls


@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("series", [True, False])
def test_a_run_can_be_cancelled(engine, four, layers, series):
    image, labels = four if series else (array[3] for array in four)
    keywords = {"axis": 1, "series": 0} if series else {}
    given = (Image(image), Labels(labels.copy())) if layers else (image, labels)
    cancel = threading.Event()
    cancel.set()
    result = napari_imos.propagate(*given, cancel=cancel, **keywords)
    np.testing.assert_array_equal(result.data if layers else result, labels)
    cancel.clear()
    result = napari_imos.propagate(*given, cancel=cancel, **keywords)
    assert (result.data if layers else result).astype(bool).sum() > labels.astype(bool).sum()


@pytest.mark.parametrize("layers", [True, False])
def test_what_cannot_say_stop_is_refused(engine, volume, painted, layers):
    given = (Image(volume), Labels(painted)) if layers else (volume, painted)
    with pytest.raises(PromptError, match="cancel is something"):
        napari_imos.propagate(*given, anchors=5, cancel=3)
    assert not engine.calls


@pytest.mark.parametrize("keywords", [{"series": 0, "axis": 1}, {}])
def test_checkpoints_that_would_leave_holes_are_refused(engine, four, keywords):
    given = four if keywords else tuple(array[3] for array in four)
    checkpoint = SimpleNamespace(finished=[2, 3])
    with pytest.raises(PromptError, match="checkpoint"):
        napari_imos.propagate(*given, checkpoint=checkpoint, **keywords)
