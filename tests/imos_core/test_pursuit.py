"""Pursuit: windows go where all that they show has gone, and nowhere else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from imos_core import propagate
from imos_core.evaluation.rough import roughen
from imos_core.metrics import jaccard
from imos_core.walking import pursuit
from imos_core.walking.pursuit import CELLS, VIEW, displacement

CELL = 3  # pixels of a window of 96 per sample of a template


def texture(size, seed):
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(1, 1, size // 6, size // 6, generator=generator)
    return F.interpolate(rough, (size, size), mode="bicubic")[0, 0]


def seen(scene, down=0, right=0):
    """A view of a scene around its centre, and a window around a place in it."""
    middle, half = len(scene) // 2, CELLS * CELL // 2
    view = scene[middle - half : middle + half, middle - half : middle + half]
    top, left = middle - 48 + down * CELL, middle - 48 + right * CELL
    window = scene[top : top + 96, left : left + 96]
    return F.avg_pool2d(view[None], CELL), window[None]


@pytest.fixture
def disc():
    rows, columns = np.mgrid[:96, :96] - 48
    return torch.from_numpy((rows**2 + columns**2 < 20**2).astype(np.float32))[None]


@settings(max_examples=20, deadline=None)
@given(
    down=st.integers(-20, 20),
    right=st.integers(-20, 20),
    gain=st.floats(0.2, 1.5),
    offset=st.floats(-0.3, 0.3),
)
def test_what_was_there_is_found_again_in_any_light(down, right, gain, offset):
    view, window = seen(texture(360, 1), down, right)
    mask = torch.zeros(1, 96, 96)
    mask[:, 30:60, 30:60] = 1
    way = displacement(gain * window + offset, mask, view)
    # a way that is short is left to the network
    expected = [down / 32, right / 32] if max(abs(down), abs(right)) >= 3 else [0, 0]
    assert way[0].tolist() == pytest.approx(expected)


def test_most_views_that_change_on_the_way_are_followed_from_prompts_by_hand(disc):
    """Half of what is seen is new, and nobody paints exactly."""
    followed = 0
    for seed in range(20):
        scene = texture(360, 50 + seed)
        _, window = seen(scene)
        view, _ = seen(0.5 * scene.roll((0, 27), (0, 1)) + 0.5 * texture(360, 90 + seed))
        rough = roughen(disc[0].numpy() > 0, np.random.default_rng(seed), strays=0.1)
        way = displacement(window, torch.from_numpy(rough.astype(np.float32))[None], view)
        followed += way[0].tolist() == pytest.approx([0, 9 / 32], abs=1.5 / 32)
    assert followed >= 17


def test_windows_stay_where_there_is_no_better_place(disc):
    view, window = seen(texture(360, 2))
    other, _ = seen(texture(360, 3))
    flat = torch.full_like(view, 0.5)
    windows, masks = window.expand(3, -1, -1), disc.expand(3, -1, -1)
    assert not displacement(windows, masks, torch.cat([view, other, flat])).any()


def test_the_object_counts_more_than_what_lies_far_from_it(disc):
    """A corner that shows something else does not stop a window."""
    scene, other = texture(360, 4), texture(96, 5)
    _, window = seen(scene)
    now = scene.roll((0, 30), (0, 1))
    now[132:162, 162:192] = other[:30, :30]
    view, _ = seen(now)
    assert displacement(window, disc, view)[0].tolist() == pytest.approx([0, 10 / 32])


def test_look_alikes_are_not_taken_for_an_object_that_has_ended(disc):
    """One object is gone, two of the same kind are near: neither is it."""
    scene = texture(360, 7)
    mask = disc[0] > 0
    before, now = scene.clone(), scene.clone()
    places = [(132, 132), (192, 192), (72, 102)]
    for top, left in places:
        before[top : top + 96, left : left + 96][mask] = 1.4
    for top, left in places[1:]:
        now[top : top + 96, left : left + 96][mask] = 1.4
    view, _ = seen(now)
    _, window = seen(before)
    assert not displacement(window, disc, view).any()
    # nor is a single one, whose surroundings are not those that the object had
    now[192:288, 192:288][mask] = scene[192:288, 192:288][mask]
    view, _ = seen(now)
    assert not displacement(window, disc, view).any()
    # but if all of it has moved, it is
    view, _ = seen(before.roll((18, -24), (0, 1)))
    assert displacement(window, disc, view)[0].tolist() == pytest.approx([6 / 32, -8 / 32])


def test_of_two_places_that_fit_neither_is_taken(disc):
    mask = disc[0] > 0
    scene = 0.05 * texture(360, 11)
    before, now = scene.clone(), scene.clone()
    before[132:228, 132:228][mask] = 1
    now[180:276, 180:276][mask] = 1
    _, window = seen(before)
    view, _ = seen(now)
    assert displacement(window, disc, view).any()
    now[84:180, 84:180][mask] = 1
    view, _ = seen(now)
    assert not displacement(window, disc, view).any()


def test_what_the_edge_cuts_is_left_where_it_is():
    view, window = seen(texture(360, 8), 6, 0)
    mask = torch.zeros(1, 96, 96)
    mask[:, 60:93, 30:60] = 1
    assert displacement(window, mask, view).any()
    mask[:, 93:] = mask[:, 92:93]
    assert not displacement(window, mask, view).any()


def test_the_whole_window_must_fit_better_too():
    """Something small is found elsewhere, but all around it says that nothing moved."""
    scene, spot = texture(360, 9), texture(96, 10)[:24, :24]
    before, now = scene.clone(), scene.clone()
    before[168:192, 168:192] = spot
    now[168:192, 198:222] = spot
    mask = torch.zeros(1, 96, 96)
    mask[:, 48 - 12 : 48 + 12, 48 - 12 : 48 + 12] = 1
    view, _ = seen(now)
    _, window = seen(before)
    assert not displacement(window, mask, view).any()


def test_members_of_a_batch_do_not_know_each_other(disc):
    pairs = [seen(texture(360, seed), seed, -2 * seed) for seed in range(4, 8)]
    views, windows = (torch.cat(x) for x in zip(*pairs, strict=True))
    masks = disc.expand(4, -1, -1)
    together = displacement(windows, masks, views)
    alone = [displacement(windows[i : i + 1], masks[:1], views[i : i + 1]) for i in range(4)]
    assert torch.equal(together, torch.cat(alone))
    assert together.any(1).all()


def jumping_scene():
    """Slices of a scene that a camera sees jump by more than the object's size, and the truth."""
    scene = (200 * texture(600, 6)).clamp(0, 255).numpy().astype(np.uint8)
    rows, columns = np.mgrid[:600, :600] - 300
    truth = rows**2 + columns**2 < 14**2
    scene[truth] = 250
    corners = [(200, 200), (225, 235), (190, 240), (230, 205), (215, 250)]
    cut = [(slice(y, y + 200), slice(x, x + 200)) for y, x in corners]
    return np.stack([scene[c] for c in cut]), np.stack([truth[c] for c in cut])


def test_an_object_that_jumps_farther_than_its_size_is_kept(monkeypatch):
    image, truth = jumping_scene()

    def score():
        found = np.zeros_like(truth)
        for piece in propagate(image, {0: truth[0].astype(np.uint8)}, device="cpu"):
            found[piece.index] = piece.labels > 0
        return jaccard(found[1:], truth[1:]).mean()

    with_pursuit = score()
    monkeypatch.setattr(
        "imos_core.walking.sight.displacement", lambda before, *_: torch.zeros(len(before), 2)
    )
    assert with_pursuit > 0.8 > score() + 0.3


def test_an_object_that_leaves_the_slice_is_let_go(monkeypatch):
    """However far and often a window is told to go, it stays at the slice."""
    image, truth = jumping_scene()
    for way in ([-0.7, 0.7], [0.7, -0.7]):
        monkeypatch.setattr(
            "imos_core.walking.sight.displacement",
            lambda before, *_, way=way: torch.tensor([way]).expand(len(before), 2),
        )
        pieces = list(propagate(image, {0: truth[0].astype(np.uint8)}, device="cpu"))
        assert [p.index for p in pieces] == [0, 1, 2, 3, 4]


def test_a_view_has_as_many_samples_per_side_as_a_template():
    assert CELLS / VIEW == pursuit._TEMPLATE
