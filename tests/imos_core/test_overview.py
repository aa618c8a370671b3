"""The contact sheet: its parts, any shape, and that it stays readable."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import disc_volume

from imos_core.overview import _PROMPT, contact_sheet


def colours(sheet):
    return {tuple(c) for c in np.asarray(sheet).reshape(-1, 3)}


@pytest.fixture
def disc():
    return disc_volume(9, 40)


def test_the_prompt_is_framed_and_the_labels_are_coloured(disc):
    image, labels = disc
    seen = colours(contact_sheet(image, labels, [4]))
    assert _PROMPT in seen
    assert (86, 190, 245) in seen
    plain = colours(contact_sheet(image, np.zeros_like(labels), []))
    assert _PROMPT not in plain
    assert (86, 190, 245) not in plain


def test_confidence_adds_a_strip(disc):
    image, labels = disc
    without = contact_sheet(image, labels, [4])
    with_strip = contact_sheet(image, labels, [4], confidence=np.linspace(0.4, 1, 9))
    assert with_strip.width == without.width
    assert with_strip.height > without.height


def test_slices_without_confidence_stay_dark(disc):
    image, labels = disc
    contact_sheet(image, labels, [4], confidence=[np.nan] * 9)


@pytest.mark.parametrize("unsure", [0, 450, 899])
def test_of_slices_that_share_a_pixel_the_least_sure_one_is_seen(unsure):
    image, _ = disc_volume(900, 8)
    labels = np.zeros(image.shape, np.uint8)
    labels[100, 2:5, 2:5] = 1
    sure = np.ones(900)
    less = np.where(np.arange(900) == unsure, 0.5, sure)
    one, other = (
        np.asarray(contact_sheet(image, labels, [100], confidence=c)).astype(int)
        for c in (sure, less)
    )
    assert one.shape[1] < 900
    assert np.count_nonzero((one != other).any((0, 2))) == 1


def test_truth_is_a_white_line(disc):
    image, labels = disc
    shifted = np.roll(labels, 5, axis=2)
    a, b = (contact_sheet(image, labels, [4], truth=t) for t in (shifted, labels))
    assert a.size == b.size
    assert not np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 5, 200), (300, 64, 16), (4, 700, 900)])
def test_any_shape(shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    labels = np.zeros(shape, np.uint16)
    labels[:, 2:4, 2:6] = 30
    sheet = contact_sheet(image, labels, [1], confidence=np.ones(len(image)), title="Any")
    assert 200 < sheet.width < 2200
    assert 200 < sheet.height < 1500


def test_wide_pixels_are_shown_wide():
    image, labels = disc_volume(5, 40)
    square = contact_sheet(image, labels, [2])
    flat = contact_sheet(image, labels, [2], pixel=(1.0, 2.0))
    assert flat.height < square.height


def test_colour_and_nothing_found():
    image = np.random.default_rng(0).integers(0, 255, (4, 20, 30, 3)).astype(np.uint8)
    contact_sheet(image, np.zeros((4, 20, 30), np.uint8), [0])


def test_many_labels_wrap():
    image, _ = disc_volume(5, 40)
    labels = np.tile(np.arange(1600).reshape(40, 40) // 40, (5, 1, 1)).astype(np.uint16)
    captions = {k: f"object number {k}" for k in range(1, 40)}
    few = contact_sheet(image, labels, [2], captions={1: "one"})
    many = contact_sheet(image, labels, [2], captions=captions)
    assert many.height > few.height
