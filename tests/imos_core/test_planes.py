"""Windows cut from parts of slices are those cut from whole slices, and little is read."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imos_core.cutting import sample, window_grid
from imos_core.preprocess import to_unit
from imos_core.sweep import Sweep
from imos_core.walking.planes import Planes
from imos_core.windows import Window

CPU = torch.device("cpu")
LIMITS = (20.0, 230.0)


def volume(shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.floats(-10, 70), st.floats(-10, 90), st.floats(5, 150)),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_cut_as_from_the_whole_slice(places, colour):
    image = volume((3, 61, 83, 3) if colour else (3, 61, 83))
    sweep = Sweep(image, channels_last=colour)
    planes = Planes(sweep, LIMITS, CPU)
    windows = [Window(y, x, side, side) for _, y, x, side in places]
    indices = [k for k, *_ in places]
    found = planes.cut(indices, windows, (16, 16))
    for k, window, cut in zip(indices, windows, found, strict=True):
        whole = to_unit(torch.from_numpy(sweep.frame(k)), LIMITS)[: 3 if colour else 1]
        wanted = sample(whole, window_grid(window, (16, 16), CPU), border=True)
        torch.testing.assert_close(cut, wanted, atol=1e-4, rtol=0)


def test_a_slice_is_read_once():
    class Counting:
        shape = (4, 32, 32)
        reads = 0

        def __getitem__(self, where):
            self.reads += 1
            return np.full((32, 32), 100, np.uint8)

    image = Counting()
    planes = Planes(Sweep(image), LIMITS, CPU)
    for _ in range(3):
        planes.cut([1, 1, 2], [Window(16, 16, 20, 20)] * 3, (8, 8))
    assert image.reads == 2


def test_only_what_is_seen_is_converted(monkeypatch):
    sizes = []

    def watching(part, limits):
        sizes.append(part.numel())
        return to_unit(part, limits)

    monkeypatch.setattr("imos_core.walking.planes.to_unit", watching)
    planes = Planes(Sweep(volume((2, 2000, 2000))), LIMITS, CPU)
    planes.cut([0, 0], [Window(50, 50, 40, 40), Window(1900, 1900, 40, 40)], (32, 32))
    assert sum(sizes) < 2 * 60 * 60


def test_what_is_not_finite_is_black_or_white_and_does_not_spread():
    image = np.full((2, 8, 8), 50, np.float32)
    image[1, :, :4] = np.nan
    image[1, 0, 6:] = np.inf
    image[1, 7, 6:] = -np.inf
    clean = np.where(np.isnan(image), LIMITS[0], np.clip(image, *LIMITS)).astype(np.float32)
    found, wanted = (Planes(Sweep(x), LIMITS, CPU) for x in (image, clean))
    torch.testing.assert_close(found(1), wanted(1))
    windows, size = [Window(4, 4, 7, 7)], (12, 12)
    torch.testing.assert_close(found.cut([1], windows, size), wanted.cut([1], windows, size))
    assert float(found(1).min()) == 0
    assert float(found(1).max()) == 1
