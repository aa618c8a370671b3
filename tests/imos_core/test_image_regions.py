"""Regions of single images as training objects."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imos_core.data.image_regions import main, regions_of_image
from imos_core.data.sources import StaticSource
from imos_core.training.config import TrainConfig
from imos_core.training.phases import sources_of


def picture(colour):
    """Two discs on a plain ground, a little noisy."""
    rows, columns = np.mgrid[:96, :120]
    truth = np.zeros((96, 120), int)
    truth[(rows - 40) ** 2 + (columns - 35) ** 2 < 200] = 1
    truth[(rows - 60) ** 2 + (columns - 85) ** 2 < 150] = 2
    grey = np.array([60.0, 160, 210])[truth] + np.random.default_rng(0).normal(0, 2, truth.shape)
    shades = grey[..., None] * [1, 0.7, 0.4] if colour else grey
    return np.clip(shades, 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize("colour", [False, True])
def test_what_has_a_border_is_found(colour):
    image, truth = picture(colour)
    found = regions_of_image(image, (1.5, 0.2))
    assert found.dtype == np.uint8
    assert found.max() == 2
    for row, column in ((40, 35), (60, 85)):
        own, true = found == found[row, column], truth == truth[row, column]
        assert (own & true).sum() / (own | true).sum() > 0.85


def test_a_plain_image_has_none():
    assert not regions_of_image(np.full((64, 64), 80, np.uint8), (2.5, 0.15)).any()


def test_no_more_labels_than_a_picture_can_hold():
    rows, columns = np.mgrid[:400, :400]
    board = np.where((rows // 20 + columns // 20) % 2, 200, 50).astype(np.uint8)
    found = regions_of_image(board, (1.5, 0.2))
    sizes = np.bincount(found.ravel())[1:]
    assert 200 < len(sizes) <= 255
    assert (sizes > 0).all()


def test_written_regions_are_a_source(tmp_path, capsys):
    (tmp_path / "static" / "toy").mkdir(parents=True)
    image, _ = picture(colour=True)
    Image.fromarray(image).save(tmp_path / "static" / "toy" / "a.jpg", quality=95)
    Image.fromarray(np.zeros_like(image)).save(tmp_path / "static" / "toy" / "b.jpg")
    (tmp_path / "static" / "toy" / "._a.jpg").write_bytes(b"what a Mac leaves beside a file")
    assert main([str(tmp_path / "static"), "-o", str(tmp_path / "out")]) == 0
    assert "objects in 1 images" in capsys.readouterr().out
    volume = StaticSource(tmp_path / "out").draw(np.random.default_rng(0))
    assert volume.image.shape == (1, 96, 120, 3)
    assert len(volume.extents)
    config = TrainConfig(image_regions=str(tmp_path / "out"), weights={"image_regions": 1.0})
    assert [type(source) for source, _ in sources_of(config)] == [StaticSource]


def test_an_empty_folder_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "No images were found" in capsys.readouterr().err
