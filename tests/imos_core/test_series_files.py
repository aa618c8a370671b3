"""A whole series of volumes, from files to a file: `imos propagate --series`."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from zarr_files import write_ome_zarr

import imos_core
from imos_core.cli import main
from imos_core.commands import output as command_output
from imos_core.errors import FileError, PromptError
from imos_core.files import series as series_files
from imos_core.files.one_run import only_run
from imos_core.files.results import work_folder
from imos_core.files.series_results import SeriesResults
from imos_core.io import read_labels, read_volume
from imos_core.series.plan import order_of, plan_series, steps_of
from imos_core.series.steps import key_slices, parents_of

PLAIN = ("--precision", "float32", "--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A bright ball that drifts through four volumes of seven slices, painted on one slice."""
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(0)
    t, z, y, x = np.ogrid[:4, :7, :48, :56]
    ball = (3 * (z - 3 - t / 4)) ** 2 + (y - 20 - 2 * t) ** 2 + (x - 24 - 3 * t) ** 2 < 110
    image = (60 + 110 * ball + rng.normal(0, 5, ball.shape)).clip(0, 255).astype(np.uint8)
    painted = np.zeros(ball.shape, np.uint16)
    painted[1, 3][ball[1, 3]] = 4
    painted[3, 0, :3, :3] = 9  # of somebody else
    write(folder / "image.tif", image)
    write(folder / "painted.tif", painted)
    return folder, ball, painted


def write(path, array):
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": "TZYX"})


def run(files, out, *more, labels="painted.tif", image="image.tif"):
    folder = files[0]
    names = [str(folder / image), str(folder / labels), "-o", str(out)]
    return main(["propagate", *names, "--series", "--labels", "4", *PLAIN, *more])


@pytest.fixture(scope="module")
def once(files):
    out = files[0] / "once.tif"
    assert run(files, out, "--confidence", str(files[0] / "sure.tif")) == 0
    return np.asarray(tifffile.imread(out))


def test_one_slice_becomes_the_series(files, once):
    _, ball, painted = files
    assert once.shape == ball.shape
    assert once.dtype == painted.dtype
    np.testing.assert_array_equal(once[1, 3], painted[1, 3])
    np.testing.assert_array_equal(once == 9, painted == 9)
    found = once == 4
    for t in range(4):
        both, either = (found[t] & ball[t]).sum(), (found[t] | ball[t]).sum()
        assert both > 0.6 * either, f"time point {t}: {both / either:.2f}"


def test_how_sure_every_voxel_is(files, once, tmp_path):
    folder, _, painted = files
    sure = tifffile.imread(folder / "sure.tif")
    assert (sure.shape, sure.dtype) == (once.shape, np.float32)
    assert (sure[1, 3] == 1).all()
    assert ((sure > 0) & (sure <= 1)).all()
    assert 0 < (sure < 0.9).mean() < 0.2
    # where it starts, it is that of the volume alone
    tifffile.imwrite(tmp_path / "painted.tif", painted[1])
    names = [str(folder / "image.tif"), str(tmp_path / "painted.tif"), "--time", "1"]
    names += ["-o", str(tmp_path / "out.tif"), "--confidence", str(tmp_path / "sure.tif")]
    assert main(["propagate", *names, "--labels", "4", *PLAIN]) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "sure.tif"), sure[1])


def test_volumes_that_came_are_sure_and_steps_before_them_unknown(files, tmp_path):
    ball = files[1]
    came = np.zeros(ball.shape, np.uint16)
    came[1] = 4 * ball[1]
    write(tmp_path / "came.tif", came)
    more = ("--direction", "forward", "--confidence", str(tmp_path / "sure.npy"))
    assert run(files, tmp_path / "out.npy", *more, labels=tmp_path / "came.tif") == 0
    sure = np.load(tmp_path / "sure.npy")
    assert not sure[0].any()
    assert (sure[1] == 1).all()
    assert ((sure[2:] > 0) & (sure[2:] <= 1)).all()


def test_it_is_what_the_notebook_finds(files, once):
    import napari_imos

    folder, _, painted = files
    image = tifffile.imread(folder / "image.tif")
    keywords = {"precision": "float32", "device": "cpu"}
    found = napari_imos.propagate(image, painted, axis=1, series=0, ids=[4], **keywords)
    np.testing.assert_array_equal(found, once)


@pytest.mark.parametrize("kind", ["npy", "zarr", "slices before time", "volume", "slice"])
def test_other_files(files, once, tmp_path, kind):
    folder, _, painted = files
    if kind == "npy":
        np.save(folder / "painted.npy", painted)
        assert run(files, tmp_path / "out.npy", labels="painted.npy") == 0
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), once)
        return
    if kind == "zarr":
        assert run(files, tmp_path / "out.zarr") == 0
        for t in range(4):
            found = np.asarray(read_labels(tmp_path / "out.zarr", t).array)
            np.testing.assert_array_equal(found, once[t])
        return
    if kind == "slices before time":
        image = tifffile.imread(folder / "image.tif").swapaxes(0, 1)
        write_ome_zarr(folder / "image.zarr", image, "0.5", "ztyx", (1.0, 30.0, 1.0, 1.0))
        assert run(files, tmp_path / "out.zarr", image="image.zarr") == 0
        found = read_volume(tmp_path / "out.zarr", series=True)
        np.testing.assert_array_equal(np.asarray(found.array), once)
        assert (found.names, found.spacing, found.interval[0]) == ("tzyx", (1, 1, 1), 30)
        return
    where, more = ((1,), ()) if kind == "volume" else ((1, 3), ("--anchors", "3"))
    tifffile.imwrite(folder / "single.tif", painted[where])
    assert run(files, tmp_path / "out.tif", "--time", "1", *more, labels="single.tif") == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif") == 4, once == 4)


def test_a_run_that_was_cut_off_goes_on_with_the_same_bytes(files, once, tmp_path, monkeypatch):
    out, real, calls = tmp_path / "out.tif", imos_core.propagate, []
    sure = ("--confidence", str(tmp_path / "sure.tif"))

    def failing(*given, **more):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(imos_core, "propagate", failing)
        assert run(files, out, *sure) == 130
    assert not out.exists()
    assert json.loads((work_folder(out) / "done.json").read_text())["done"] == [0]
    assert run(files, out, *sure) == 2, "it can go on, and nobody says whether it should"
    for other in (["--resume", "--stop", "6", *sure], ["--resume"]):
        assert run(files, out, *other) == 2, "another run than that"
    image = files[0] / "image.tif"
    before, seen = image.read_bytes(), image.stat()
    image.write_bytes(before[:-1] + b"0")
    assert run(files, out, "--resume", *sure) == 2, "another image"
    image.write_bytes(before)
    os.utime(image, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert run(files, out, "--resume", *sure) == 0
    np.testing.assert_array_equal(tifffile.imread(out), once)
    once_sure = tifffile.imread(files[0] / "sure.tif")
    np.testing.assert_array_equal(tifffile.imread(sure[1]), once_sure)
    assert not work_folder(out).exists()


@pytest.mark.parametrize("after", [1, 28])
def test_files_that_change_meanwhile_are_refused(files, tmp_path, monkeypatch, capsys, after):
    out, image = tmp_path / "out.tif", files[0] / "image.tif"
    seen = image.stat()

    def watch(slices, *args, **kwargs):
        for count, item in enumerate(slices, 1):
            if count == after:
                os.utime(image, ns=(1, 1))
            yield item

    monkeypatch.setattr(command_output, "with_progress", watch)
    assert run(files, out) == 2
    os.utime(image, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert "image.tif was replaced or written while it was read" in capsys.readouterr().err
    assert not out.exists()
    assert work_folder(out).exists() == (after > 1), "volumes that were finished before"


def test_labels_that_change_right_after_they_were_read_are_refused(
    files, tmp_path, monkeypatch, capsys
):
    out, labels = tmp_path / "out.tif", tmp_path / "labels.tif"
    labels.write_bytes((files[0] / "painted.tif").read_bytes())
    plan = series_files._Files.plan

    def changing(self):
        found = plan(self)
        os.utime(labels, ns=(1, 1))
        return found

    monkeypatch.setattr(series_files._Files, "plan", changing)
    assert run(files, out, "--start", "3", "--stop", "4", labels=labels) == 2
    assert "labels.tif was replaced or written while it was read" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("kind", ["tif", "npy", "zarr"])
@pytest.mark.parametrize("how", ["--series", "--time"])
@pytest.mark.parametrize("count", [3, 6])
def test_labels_with_other_time_points_are_refused(files, tmp_path, capsys, kind, how, count):
    folder, _, painted = files
    other = np.concatenate([painted, painted])[:count]
    path = tmp_path / f"labels.{kind}"
    if kind == "zarr":
        write_ome_zarr(path, other, "0.5", "tzyx", (1.0,) * 4)
    else:
        (write if kind == "tif" else np.save)(path, other)
    names = [str(folder / "image.tif"), str(path), "-o", str(tmp_path / "out.tif")]
    assert main(["propagate", *names, how, *(["1"] if how == "--time" else []), *PLAIN]) == 2
    said = capsys.readouterr().err
    assert f"has {count} time points, but" in said
    assert "image.tif has 4" in said
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--confidence", "c.nii.gz"), "written as .tif, .zarr or .npy"),
        (("--time", "2"), "Nothing is painted at time point 2"),
        (("--anchors", "5"), "Nothing is painted on slice 5 of time point 1"),
        (("--axis", "7"), "Axis 7 is out of range"),
        (("--start", "5", "--stop", "5"), "There are no slices 5 to 5"),
    ],
)
def test_what_does_not_serve_is_said(files, tmp_path, capsys, more, words):
    assert run(files, tmp_path / "out.tif", *more) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_some_formats_hold_a_series(files, tmp_path, capsys):
    assert run(files, tmp_path / "out.nii.gz") == 2
    assert "written as .tif, .zarr or .npy" in capsys.readouterr().err
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((5, 20, 20), np.uint8))
    names = [str(tmp_path / "image.tif")] * 2
    assert main(["propagate", *names, "-o", str(tmp_path / "o.tif"), "--series"]) == 2
    assert "no series" in capsys.readouterr().err


def test_which_steps_start_by_themselves():
    one, two = np.array([[1, 0]]), np.array([[2, 1]])
    plan = plan_series({1: {4: one}, 3: {0: two, 5: one}}, 5)
    assert plan.main == 3
    assert plan.labels == (1, 2)
    assert [(s.index, s.source, sorted(s.labels)) for s in plan.steps] == [
        (3, None, [1, 2]), (4, 3, [1, 2]), (2, 3, [1, 2]), (1, 2, [1, 2]), (0, 1, [1, 2]),
    ]  # fmt: skip
    assert set(plan.prompts[1]) == {4}, "what is painted there is a prompt, beside what is carried"
    plan = plan_series({1: {4: one}, 3: {0: two, 5: one}}, 5, labels=[1])
    assert plan.main == 1
    assert [s.index for s in plan.steps if s.source is None] == [1, 3]
    volume = dict.fromkeys((3, 4, 5), one)
    plan = plan_series({2: volume}, 4)
    assert [s.index for s in plan.steps if s.taken] == [2]
    assert plan.prompts[2] == {}
    plan = plan_series({2: volume}, 4, anchors=[4])
    assert not any(s.taken for s in plan.steps)
    assert set(plan.prompts[2]) == {4}
    with pytest.raises(PromptError, match="Label 7 is not painted"):
        plan_series({2: volume}, 4, labels=[7])
    with pytest.raises(PromptError, match="Nothing is painted"):
        plan_series({}, 4)


def plan_of(painted, count, **more):
    """Step, source and labels, in the order in which steps are done, of labels by step."""
    planes = {t: {0: np.array([labels])} for t, labels in painted.items()}
    steps = plan_series(planes, count, **more).steps
    return [(s.index, s.source, *sorted(s.labels)) for s in steps]


def test_what_is_painted_later_goes_both_ways():
    assert plan_of({0: [1], 2: [2]}, 4, main=0) == [
        (0, None, 1), (1, 0, 1), (2, 1, 1, 2), (3, 2, 1, 2), (1, 2, 2), (0, 1, 2),
    ]  # fmt: skip
    assert plan_of({0: [1], 2: [2]}, 4, main=2) == [
        (2, None, 2), (3, 2, 2), (1, 2, 2), (0, 1, 1, 2), (1, 0, 1), (2, 1, 1), (3, 2, 1),
    ]  # fmt: skip
    # labels that take the same way go together, and a label from wherever it is nearest
    assert plan_of({0: [1], 1: [2, 3], 4: [2]}, 5, main=0) == [
        (0, None, 1), (1, 0, 1, 2, 3), (2, 1, 1, 2, 3), (3, 2, 1, 2, 3), (4, 3, 1, 2, 3),
        (0, 1, 2, 3),
    ]  # fmt: skip
    assert plan_of({1: [1], 2: [2]}, 4, main=1, direction="forward") == [
        (1, None, 1), (2, 1, 1, 2), (3, 2, 1, 2),
    ]  # fmt: skip
    assert plan_of({1: [1], 2: [2]}, 4, main=2, direction="forward") == [
        (2, None, 2), (3, 2, 2),
    ]  # fmt: skip
    # a volume is taken as it is: what is not in it is not carried through it
    volume = dict.fromkeys((3, 4, 5), np.array([[1]]))
    plan = plan_series({1: volume, 3: {0: np.array([[2]])}}, 4)
    assert [(s.index, s.source, *sorted(s.labels), s.taken) for s in plan.steps] == [
        (1, None, 1, 2, True), (2, 1, 1, False), (0, 1, 1, False), (3, 2, 1, 2, False),
        (2, 3, 2, False),
    ]  # fmt: skip


@given(
    st.lists(st.sets(st.integers(1, 3)), min_size=1, max_size=6).filter(any),
    st.data(),
)
def test_every_label_comes_to_every_step_once(painted, data):
    at = {t: labels for t, labels in enumerate(painted) if labels}
    main = data.draw(st.sampled_from(sorted(at)))
    everything = set().union(*painted)
    steps = steps_of(len(painted), main, at, everything, (), "both")
    found = [(s.index, label) for s in steps for label in s.labels]
    assert sorted(found) == [(t, i) for t in range(len(painted)) for i in sorted(everything)]
    for number, (step, parent) in enumerate(zip(steps, parents_of(steps), strict=True)):
        carried = step.labels - at.get(step.index, set())
        if parent is None:
            assert not carried, "nothing comes from nowhere"
        else:
            assert parent < number
            assert steps[parent].index == step.source
            assert carried <= steps[parent].labels


def test_a_label_that_is_painted_later_comes_back(files, tmp_path):
    """Another ball is painted at the last time point, and found at the first one."""
    t, z, y, x = np.ogrid[:4, :7, :48, :56]
    other = (3 * (z - 3)) ** 2 + (y - 38 + 2 * t) ** 2 + (x - 12) ** 2 < 60
    image = tifffile.imread(files[0] / "image.tif")
    image[np.broadcast_to(other, image.shape)] = 230
    painted = files[2].copy()
    painted[3, 3][other[3, 3]] = 5
    write(tmp_path / "image.tif", image)
    write(tmp_path / "painted.tif", painted)
    names = [str(tmp_path / name) for name in ("image.tif", "painted.tif")]
    sure = ("--confidence", str(tmp_path / "sure.tif"))
    out = ("-o", str(tmp_path / "out.tif"))
    assert main(["propagate", *names, *out, "--series", "--labels", "4,5", *PLAIN, *sure]) == 0
    found = tifffile.imread(tmp_path / "out.tif")
    for label, truth in ((4, files[1]), (5, other)):
        for time in range(4):
            both = ((found[time] == label) & truth[time]).sum()
            either = ((found[time] == label) | truth[time]).sum()
            assert both > 0.5 * either, f"label {label}, time point {time}: {both / either:.2f}"
    unsure = tifffile.imread(tmp_path / "sure.tif") < 0.9
    for truth in (files[1], other):
        assert unsure[0][truth[0]].any(), "the least sure of both counts"


def test_order():
    assert order_of(5, 2, set(), "both") == [(2, None), (3, 2), (1, 2), (4, 3), (0, 1)]
    assert order_of(4, 1, set(), "forward") == [(1, None), (2, 1), (3, 2)]
    assert order_of(4, 1, set(), "backward") == [(1, None), (0, 1)]
    both = order_of(7, 0, {6}, "both")
    assert both[:2] == [(0, None), (6, None)]
    assert dict(both) == {0: None, 1: 0, 2: 1, 3: 2, 4: 5, 5: 6, 6: None}


def test_key_slices():
    assert key_slices(np.array([0, 5, 0])) == [1]
    wide = np.array([1, 4, 6, 8, 9, 10, 9, 8, 6, 4, 1])
    assert key_slices(wide) == [2, 5, 8]
    thin = np.array([1, 1, 1, 1, 9, 1, 1, 1, 1])
    assert key_slices(thin) == [4]


def test_no_file_is_held_when_it_is_to_go(files, tmp_path, held_when_discarded):
    assert run(files, tmp_path / "out.npy", "--confidence", str(tmp_path / "sure.npy")) == 0
    assert held_when_discarded == []
    assert not list(tmp_path.glob(".*"))


def test_no_file_is_held_when_a_run_fails(files, tmp_path, held_when_discarded, monkeypatch):
    def full(self, found):
        raise FileError("The disk is full.")

    monkeypatch.setattr(SeriesResults, "note", full)
    assert run(files, tmp_path / "out.npy", "--confidence", str(tmp_path / "sure.npy")) == 2
    assert held_when_discarded == []
    assert not list(tmp_path.glob(".*"))


def test_one_run_at_a_time_writes_a_series(files, once, tmp_path, capsys):
    out = tmp_path / "out.tif"
    with only_run([out]):
        assert run(files, out) == 2
    assert "is being written by another run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
