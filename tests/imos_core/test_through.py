"""Labels that go through painted slices which say nothing of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_model

from imos_core import propagate
from imos_core.cli import main
from imos_core.errors import PromptError
from imos_core.files.propagate import FileJob, propagate_files
from imos_core.prompt import read_prompts
from imos_core.series.plan import plan_series
from imos_core.series.volumes import SeriesImages, SeriesRules, fill_series
from imos_core.through import through_of_painted, through_unshown, unrelated
from imos_core.walking.checkpoint import Checkpoint
from imos_core.weights import save_weights

SLICES, SIZE = 9, 48
CONTRAST = (0, 255)


def two_discs():
    """Two bright discs that stay where they are, apart from each other."""
    y, x = np.indices((SIZE, SIZE))
    truth = np.zeros((SIZE, SIZE), np.uint8)
    truth[(y - 14) ** 2 + (x - 14) ** 2 < 49] = 1
    truth[(y - 34) ** 2 + (x - 34) ** 2 < 49] = 2
    noise = np.random.default_rng(0).normal(0, 4, (SLICES, SIZE, SIZE))
    return np.clip(60 + 120 * (truth > 0) + noise, 0, 255).astype(np.uint8), truth


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def discs():
    return two_discs()


@pytest.fixture
def alone(discs):
    """Each disc painted on a slice of its own: 1 on slice 2, 2 on slice 6."""
    truth = discs[1]
    return {2: np.where(truth == 1, truth, 0), 6: np.where(truth == 2, truth, 0)}


def found(image, prompts, model, **options):
    options = {"contrast": CONTRAST, "precision": "float32", "device": "cpu", **options}
    return {s.index: s for s in propagate(image, prompts, model=model, **options)}


@pytest.mark.parametrize("window", ["auto", "full"])
def test_they_are_found_around_what_is_painted(model, discs, alone, window):
    image, _ = discs
    goes = found(image, alone, model, window=window, through={1: [6], 2: [2]})
    one = found(image, {2: alone[2]}, model, window=window)
    assert (goes[6].labels[alone[6] != 0] == 2).all()
    free = alone[6] == 0
    np.testing.assert_array_equal(goes[6].labels[free] == 1, one[6].labels[free] == 1)
    assert (goes[6].confidence[~free] == 1).all()
    assert goes[6].source == "forward"
    assert goes[2].source == "backward"
    assert (goes[2].labels[alone[2] != 0] == 1).all()


def test_otherwise_painted_slices_come_as_they_are(model, discs, alone):
    image, _ = discs
    for through in (None, {}, {2: [2]}):
        plain = found(image, alone, model, through=through)
        assert plain[6].source == "anchor"
        np.testing.assert_array_equal(plain[6].labels, alone[6])


def test_only_those_that_go_through_are_added(model, discs):
    """Label 3 is painted on slice 2 as well, and stays away from slice 6."""
    image, truth = discs
    first = np.where(truth == 1, truth, 0)
    first[20:26, 4:10] = 3
    second = np.where(truth == 2, truth, 0)
    goes = found(image, {2: first, 6: second}, model, through={1: [6]})
    assert set(np.unique(goes[6].labels)) <= {0, 1, 2}


def test_what_such_a_slice_shows_of_a_label_is_no_anchor(model, discs, alone):
    image, _ = discs
    shown = alone[6].copy()
    shown[2:5, 40:44] = 1
    goes = found(image, {2: alone[2], 6: shown}, model, through={1: [6]})
    without = found(image, alone, model, through={1: [6]})
    for k in range(SLICES):
        np.testing.assert_array_equal(goes[k].labels, without[k].labels)


def test_not_where_it_has_ended(model, discs, alone):
    image, _ = discs
    goes = found(image, alone, model, through={1: [6]}, ends={1: [6]})
    assert goes[6].source == "anchor"
    goes = found(image, alone, model, through={1: [6]}, ends={1: [5]})
    assert 1 not in goes[6].labels


@pytest.mark.parametrize("every", [1, 2])
def test_who_goes_on_finds_the_same(model, discs, alone, tmp_path, every):
    image, _ = discs
    options = {
        "contrast": CONTRAST, "precision": "float32", "device": "cpu", "model": model,
        "through": {1: [6], 2: [2]},
    }  # fmt: skip
    whole = {s.index: s for s in propagate(image, alone, **options)}
    parts: dict = {}
    for _ in range(2 * SLICES):
        slices = propagate(
            image, alone, checkpoint=Checkpoint(tmp_path / "c", every, resume=True), **options
        )
        for count, s in enumerate(slices):
            parts[s.index] = s
            if count == 3:
                break
        slices.close()
        if len(parts) == SLICES:
            break
    assert sorted(parts) == list(range(SLICES))
    for k, s in parts.items():
        np.testing.assert_array_equal(s.labels, whole[k].labels)


@pytest.mark.parametrize(
    ("through", "words"),
    [
        ([6], "by label"),
        ({1: [5]}, r"slice 5 is none of \[2, 6\]"),
        ({1.5: [6]}, "whole number"),
        ({9: [6]}, r"Label 9 cannot go through .* choose from \[1, 2\]"),
        ({1: [-9]}, r"slice -9 is none of \[2, 6\]"),
        ({1: [-10]}, r"slice -10 is none of \[2, 6\]"),
        ({1: [2]}, "Label 1 is painted on slice 2 only, .*: leave one slice"),
        ({1: [6], 2: [2, -3]}, "Label 2 is painted on slice 6 only"),
    ],
)
def test_what_cannot_be_is_refused(model, discs, alone, through, words):
    image, _ = discs
    with pytest.raises(PromptError, match=words):
        found(image, alone, model, through=through)


def test_slices_are_counted_from_the_end_too(alone):
    given = read_prompts(alone, SLICES, (SIZE, SIZE), through={1: [-3], 2: [2]})
    assert given.through == {1: {6}, 2: {2}}


def test_what_was_recorded_of_labels_that_are_gone_is_left_out(alone):
    assert through_of_painted({1: [6], 2: [6], 3: [2]}, alone) == {1: [6]}
    assert through_of_painted({1: [4, 6]}, alone) == {1: [6]}
    assert through_unshown({1: [2, 6], 3: [2]}, alone) == {1: [6]}


def test_a_session_whose_label_was_erased_elsewhere(model, discs, alone, tmp_path):
    """Label 1 is left on the slice onto which it had been filled in: nobody follows it."""
    painted = np.zeros_like(discs[0])
    painted[6] = alone[6]
    painted[6, :3, :3] = 1
    tifffile.imwrite(tmp_path / "image.tif", discs[0])
    tifffile.imwrite(tmp_path / "labels.tif", painted)
    options = {"model": model, "contrast": CONTRAST, "precision": "float32"}
    job = FileJob(
        tmp_path / "image.tif", tmp_path / "labels.tif", tmp_path / "out.tif", anchors=[6],
        labels=[2], through={1: [6]}, session=True, options=options,
    )  # fmt: skip
    propagate_files(job)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif")[6], painted[6])
    with pytest.raises(PromptError, match="Label 1 is painted on slice 6 only"):
        propagate_files(replace(job, session=False))


def test_objects_that_were_painted_alone():
    assert unrelated({2: [1], 6: [2]}) == {1: [6], 2: [2]}
    # who paints all objects of several slices leaves out where they are not
    assert unrelated({2: [1, 2], 6: [1]}) == {}
    assert unrelated({2: [1], 4: [1, 2], 6: [2], 8: [3]}) == {1: [8], 2: [8], 3: [2, 4, 6]}
    assert unrelated({2: [1], 6: []}) == {}
    assert unrelated({2: np.array([1]), 6: np.array([2, 3])}) == {1: [6], 2: [2], 3: [2]}


@given(st.dictionaries(st.integers(0, 20), st.sets(st.integers(1, 9), max_size=4)))
def test_no_label_goes_through_a_slice_with_a_neighbour_of_it(slices):
    for label, where in unrelated(slices).items():
        beside = set().union(*(labels for labels in slices.values() if label in labels))
        assert label in beside
        for k in where:
            assert slices[k]
            assert beside.isdisjoint(slices[k])


def test_on_the_command_line(model, discs, alone, tmp_path):
    image, _ = discs
    painted = np.zeros_like(image)
    for k, plane in alone.items():
        painted[k] = plane
    tifffile.imwrite(tmp_path / "image.tif", image)
    tifffile.imwrite(tmp_path / "labels.tif", painted)
    save_weights(model, tmp_path / "tiny.safetensors")
    common = [
        "propagate", str(tmp_path / "image.tif"), str(tmp_path / "labels.tif"), "--quiet",
        "--model", str(tmp_path / "tiny.safetensors"), "--contrast", "0,255",
        "--precision", "float32",
    ]  # fmt: skip
    assert main([*common, "-o", str(tmp_path / "plain.tif")]) == 0
    plain = tifffile.imread(tmp_path / "plain.tif")
    np.testing.assert_array_equal(plain[6], alone[6])
    assert main([*common, "-o", str(tmp_path / "goes.tif"), "--fill-anchors"]) == 0
    goes = tifffile.imread(tmp_path / "goes.tif")
    wanted = found(image, alone, model, through={1: [6], 2: [2]})
    for k in range(SLICES):
        np.testing.assert_array_equal(goes[k], wanted[k].labels)


def test_on_the_command_line_with_several_labels_on_a_slice(model, discs, tmp_path):
    image, truth = discs
    painted = np.zeros_like(image)
    painted[2] = np.where(truth == 1, truth, 0)
    painted[6] = np.where(truth == 2, truth, 0)
    painted[6, 20:26, 4:10] = 3
    tifffile.imwrite(tmp_path / "image.tif", image)
    tifffile.imwrite(tmp_path / "labels.tif", painted)
    save_weights(model, tmp_path / "tiny.safetensors")
    command = [
        "propagate", str(tmp_path / "image.tif"), str(tmp_path / "labels.tif"), "--quiet",
        "--model", str(tmp_path / "tiny.safetensors"), "--contrast", "0,255",
        "--precision", "float32", "-o", str(tmp_path / "goes.tif"), "--fill-anchors",
    ]  # fmt: skip
    assert main(command) == 0
    goes = tifffile.imread(tmp_path / "goes.tif")
    prompts = {2: painted[2], 6: painted[6]}
    wanted = found(image, prompts, model, through={1: [6], 2: [2], 3: [2]})
    for k in range(SLICES):
        # a voxel may be decided by rounding
        assert np.count_nonzero(goes[k] != wanted[k].labels) <= 2
    assert 1 in goes[6]
    np.testing.assert_array_equal(goes[6][painted[6] != 0], painted[6][painted[6] != 0])


def test_what_was_carried_to_a_step_stays_away_from_its_painted_slices():
    """Of a series, only labels that go through a slice are written onto it."""
    z, y, x = np.ogrid[:7, :SIZE, :SIZE]
    balls = {
        i: (2 * (z - 3)) ** 2 + (y - row) ** 2 + (x - column) ** 2 < 64
        for i, (row, column) in {1: (12, 12), 2: (12, 36), 3: (36, 24)}.items()
    }
    noise = np.random.default_rng(0).normal(0, 4, (2, 7, SIZE, SIZE))
    bright = np.any(list(balls.values()), axis=0)
    image = np.clip(60 + 120 * bright + noise, 0, 255).astype(np.uint8)
    result = np.zeros(image.shape, np.uint8)
    for step, k, label in ((0, 3, 1), (1, 3, 2), (1, 4, 3)):
        result[step, k][balls[label][k]] = label
    result[1, 4, :3, :3] = 1  # an earlier run left it there
    planes = {1: {3: result[1, 3].copy(), 4: np.where(result[1, 4] == 1, 0, result[1, 4])}}
    plan = plan_series({0: {3: result[0, 3].copy()}, **planes}, 2, main=0)
    images = SeriesImages(lambda t: image[t], lambda k: image[:, k], 0, 0)
    options = {"contrast": CONTRAST, "precision": "float32", "device": "cpu"}

    def filled(through):
        into = result.copy()
        for _ in fill_series(into, images, plan, options, SeriesRules(through={1: through})):
            pass
        assert set(np.unique(into[1, 2])) == {0, 1, 2, 3}, "all three are found beside them"
        return into[1]

    found = filled({3: [3], 2: [4]})
    assert set(np.unique(found[3])) == {0, 2, 3}
    assert set(np.unique(found[4])) == {0, 1, 2, 3}
    np.testing.assert_array_equal(found[4] == 1, result[1, 4] == 1)
    found = filled({3: [3], 2: [4], 1: [3, 4]})
    assert set(np.unique(found[3])) == {0, 1, 2, 3}
    assert (found[4, :3, :3] == 0).all()
    for k, label in ((3, 2), (4, 3)):
        assert (found[k][balls[label][k]] == label).all()
