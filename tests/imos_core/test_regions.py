"""Regions of volumes as training objects: what has a border is found, what has none is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from imos_core.data.regions import RegionLimits, divide, main, repaint, standing_out
from imos_core.data.sources import SequenceSource

SHAPE = (30, 80, 90)
BALLS = (((15, 25, 25), 9), ((14, 50, 60), 11))


def ball(centre, radius):
    grid = np.indices(SHAPE)
    away = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
    return away < radius**2


@pytest.fixture
def truth():
    labels = np.zeros(SHAPE, np.int32)
    for number, (centre, radius) in enumerate(BALLS, 1):
        labels[ball(centre, radius)] = number
    return labels


@pytest.fixture
def image(truth):
    noise = np.random.default_rng(0).normal(0, 2, SHAPE)
    smooth = ndimage.gaussian_filter(np.array([40.0, 150.0, 220.0])[truth], 0.7)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def slope(image):
    return ndimage.gaussian_gradient_magnitude(image.astype(np.float32), 1)


def test_balls_are_regions_and_stand_out(image, truth):
    regions, gradient = divide(image, 1.0, 1.0, 0.2)
    assert regions.min() == 1
    found = standing_out(image, regions, gradient)
    assert found.max() == len(BALLS)
    for number, (centre, _) in enumerate(BALLS, 1):
        union = (found == found[centre]) | (truth == number)
        overlap = (found == found[centre]) & (truth == number)
        assert overlap.sum() / union.sum() > 0.85


def test_a_cut_through_a_ball_is_no_border(image, truth):
    halves = truth.copy()
    halves[(truth == 2) & (np.indices(SHAPE)[2] >= 60)] = 3
    found = standing_out(image, halves, slope(image))
    assert set(np.unique(truth[found > 0])) == {1}


def test_specks_shells_and_surroundings_are_no_objects(image, truth):
    parts = truth.copy()
    parts[parts == 0] = 3  # what is around everything
    parts[5:7, 5:7, 70:80] = 4
    shell = ball((15, 25, 25), 10) & ~ball((15, 25, 25), 9)
    parts[shell] = 5
    shown = image.copy()
    shown[parts == 4] = 250
    shown[shell] = 0
    found = standing_out(shown, parts, slope(shown), RegionLimits(fewest_voxels=100, fullest=0.2))
    assert set(np.unique(parts[found > 0])) == {1, 2}


def test_regions_that_pass_few_slices_are_left_out(image, truth):
    limits = RegionLimits(fewest_slices=19)
    found = standing_out(image, truth, slope(image), limits)
    assert set(np.unique(truth[found > 0])) == {2}


def test_repainting_changes_contrast_and_keeps_shapes(image, truth):
    contrasts = set()
    for seed in range(6):
        shown = repaint(image, truth + 1, np.random.default_rng(seed))
        assert (shown.shape, shown.dtype) == (image.shape, np.uint8)
        means = [float(shown[truth == k].mean()) for k in range(3)]
        inner = ndimage.binary_erosion(truth == 2, iterations=3)
        assert shown[inner].std() < 8  # nothing but the noise that was there
        contrasts.add(means[1] > means[2])
    assert contrasts == {True, False}


def test_written_regions_are_a_source(tmp_path, image, truth, capsys):
    folder = tmp_path / "sequences" / "train" / "toy"
    folder.mkdir(parents=True)
    spacing = np.array([2.0, 1, 1])
    np.savez(folder / "a.npz", image=image, labels=truth, spacing=spacing)
    np.savez(folder / "b.npz", image=image, labels=truth, spacing=spacing)
    entries = [{"name": "toy/a", "use": "open"}, {"name": "toy/b", "use": "research"}]
    (tmp_path / "sequences" / "manifest.json").write_text(json.dumps(entries))
    assert main([str(folder.parent), "-o", str(tmp_path / "regions")]) == 0
    names = {path.name for path in (tmp_path / "regions" / "toy").iterdir()}
    assert names
    assert {name[:2] for name in names} == {"a-"}
    volume = SequenceSource(tmp_path / "regions").draw(np.random.default_rng(0))
    assert volume.image.shape == SHAPE
    assert len(volume.extents)


def test_an_empty_folder_is_refused(tmp_path, capsys):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "._a.npz").write_bytes(b"what a Mac leaves beside a file")
    assert main([str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "No sequences were found" in capsys.readouterr().err
