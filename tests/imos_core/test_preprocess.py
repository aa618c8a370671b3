"""Intensities: windows, normalisation, and images with nothing in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imos_core.errors import ImageError, PromptWarning
from imos_core.preprocess import intensity_window, normalise, to_unit
from imos_core.sweep import Sweep
from imos_core.walking.planes import Planes


def test_percentiles_ignore_a_few_outliers():
    volume = np.random.default_rng(0).uniform(100, 200, (5, 64, 64)).astype(np.float32)
    volume[2, 0, 0] = 1e6
    low, high = intensity_window(Sweep(volume), [2], None)
    assert 99 < low < 105
    assert 195 < high < 201


def test_a_sparse_image_is_not_called_constant():
    volume = np.zeros((5, 64, 64), np.uint8)
    volume[:, 30:32, 30:32] = 200  # fewer than half a percent of the pixels
    assert intensity_window(Sweep(volume), [2], None) == (0, 200)


@pytest.mark.parametrize("value", [0, 7, -7, 1e30])
def test_a_constant_image_is_told(value):
    volume = np.full((3, 8, 8), float(value))
    with pytest.warns(PromptWarning, match=r"constant .* nothing to follow"):
        low, high = intensity_window(Sweep(volume), [1], None)
    assert low < high
    assert intensity_window(Sweep(volume), [1], (0, 1)) == (0, 1), "who gives limits knows"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_percentiles_ignore_what_is_not_finite(bad):
    volume = np.random.default_rng(0).uniform(100, 200, (5, 64, 64))
    inside = volume[:, :, 20:].copy()
    volume[:, :, :20] = bad
    volume[3:] = bad  # whole slices too
    assert intensity_window(Sweep(volume), [2], None) == pytest.approx(
        intensity_window(Sweep(inside[:3]), [2], None), abs=1
    )
    assert intensity_window(Sweep(volume), [2, 4], (0, 9)) == (0, 9)


@pytest.mark.parametrize("contrast", [None, (0.0, 1.0)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_an_image_with_nothing_finite_is_refused(contrast, bad, recwarn):
    volume = np.full((9, 8, 8), 7.0)
    volume[2:] = bad
    volume[2:, 0, 0] = np.nan
    with pytest.raises(ImageError, match=r"only NaN, infinite values or numbers beyond"):
        intensity_window(Sweep(volume), [6], contrast)
    assert not recwarn.list


def test_a_mask_is_seen_against_nan():
    volume = np.full((3, 8, 8), np.nan)
    volume[:, 2:5, 2:5] = 1
    assert intensity_window(Sweep(volume), [1], (0, 1)) == (0, 1)
    with pytest.raises(ImageError, match=r"but for NaN.*contrast limits"):
        intensity_window(Sweep(volume), [1], None)


def test_huge_numbers_are_named(recwarn):
    volume = np.random.default_rng(0).integers(0, 3, (3, 8, 8)) * 1e300
    with pytest.raises(ImageError, match=r"numbers beyond 3e38: scale it"):
        intensity_window(Sweep(volume), [1], None)
    with pytest.raises(ImageError, match=r"limits \(0, 2e\+300\) lie beyond 3e38"):
        intensity_window(Sweep(volume), [1], (0, 2e300))
    assert not recwarn.list


def test_the_persons_limits_are_taken():
    volume = np.random.default_rng(0).uniform(0, 1, (3, 8, 8))
    assert intensity_window(Sweep(volume), [1], (-160, 240)) == (-160, 240)


def seen(volume, contrast):
    sweep = Sweep(volume)
    limits = intensity_window(sweep, [1], contrast)
    return Planes(sweep, limits, torch.device("cpu"))(1)


@pytest.mark.parametrize("contrast", [None, (20, 200)])
@pytest.mark.parametrize(("dtype", "far"), [("int32", 10**9), ("int64", 10**12), ("float64", 1e8)])
def test_shades_far_from_zero_are_told_apart(dtype, far, contrast):
    volume = np.random.default_rng(0).integers(0, 255, (3, 16, 16)).astype(dtype)
    there = None if contrast is None else tuple(far + limit for limit in contrast)
    torch.testing.assert_close(
        seen(volume + np.array(far, dtype), there), seen(volume, contrast), atol=1e-5, rtol=0
    )


def test_numbers_that_float32_holds_are_taken_as_they_are():
    volume = np.random.default_rng(0).integers(0, 3000, (3, 16, 16))
    for far in (0, 2**23):
        for dtype in (np.int32, np.int64, np.float32):
            sweep = Sweep((volume + far).astype(dtype))
            intensity_window(sweep, [1], None)
            assert sweep.zero == 0


def test_to_unit_clips_and_makes_three_channels():
    plane = np.array([[0, 50], [100, 400]], np.float32)
    unit = to_unit(torch.from_numpy(plane), (50, 150))
    assert unit.shape == (3, 2, 2)
    torch.testing.assert_close(unit[1], torch.tensor([[0.0, 0.0], [0.5, 1.0]]))


def test_zscore_takes_gain_and_offset_away():
    frame = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(
        normalise(frame, "zscore"), normalise(5 * frame + 2, "zscore"), atol=1e-3, rtol=0
    )


def test_imagenet_normalisation():
    frame = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(3, 4, 4)
    assert float(normalise(frame, "imagenet").abs().max()) < 1e-6


class TestAroundObjects:
    """What lies around painted objects is told apart, whatever else is on their slices."""

    @staticmethod
    def scene():
        rng = np.random.default_rng(0)
        volume = rng.uniform(100, 200, (5, 96, 96)).astype(np.float32)
        plane = np.zeros((96, 96), np.uint8)
        plane[40:56, 40:56] = 3
        return volume, plane

    def limits(self, volume, plane):
        return intensity_window(Sweep(volume), [2], None, {2: plane})

    def test_elsewhere_as_before(self):
        volume, plane = self.scene()
        assert self.limits(volume, plane) == intensity_window(Sweep(volume), [2], None)

    def test_a_margin_of_nothing(self):
        volume, plane = self.scene()
        wide = np.pad(volume, ((0, 0), (300, 300), (300, 300)))
        low, high = self.limits(wide, np.pad(plane, 300))
        assert intensity_window(Sweep(wide), [2], None)[1] < 185, "saturated"
        assert low <= 100
        assert high > 198

    def test_something_far_brighter(self):
        volume, plane = self.scene()
        volume[:, :12, :12] = 20_000
        low, high = self.limits(volume, plane)
        assert low < 105
        assert 195 < high < 500

    def test_something_far_darker(self):
        volume, plane = self.scene()
        volume[:, :12, :12] = -8000
        low, high = self.limits(volume, plane)
        assert -200 < low < 105
        assert high > 195

    @pytest.mark.parametrize("value", [np.nan, 150.0])
    def test_nothing_differs_there(self, value):
        volume, plane = self.scene()
        volume[2, 30:70, 30:70] = value
        assert self.limits(volume, plane) == intensity_window(Sweep(volume), [2], None)

    def test_every_object_counts(self):
        volume, plane = self.scene()
        volume[:, 70:, 70:] += 5000
        plane[80:90, 80:90] = 4
        _, high = self.limits(volume, plane)
        assert high > 5150
