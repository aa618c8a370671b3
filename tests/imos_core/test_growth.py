"""Growth: tips of objects are followed as they grow, and nothing else is pushed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny import TINY_R50, tiny_model

from imos_core import propagate
from imos_core.errors import PropagationError
from imos_core.metrics import jaccard
from imos_core.walking import tips
from imos_core.walking.checkpoint import Checkpoint
from imos_core.walking.growth import begins, push
from imos_core.walking.planes import Planes

LENGTH, SIDE = 12, 96
OPTIONS = {"device": "cpu", "precision": "float32"}


def faint(radii, contrast=20, seed=0):
    """A disc of some radii that hardly stands out, and where it is."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    truth = np.hypot(rows, columns) < np.asarray(radii)[:, None, None]
    rough = np.random.default_rng(seed).normal(0, 1, truth.shape)
    rough = ndimage.gaussian_filter(rough, (0, 1.5, 1.5))
    soft = ndimage.gaussian_filter(truth.astype(float), (0, 1, 1))
    image = 100 + contrast * soft + 12 * rough / rough.std()
    return np.clip(image, 0, 255).astype(np.uint8), truth


def cone(**more):
    return faint(1.5 + 1.5 * np.arange(LENGTH), **more)


def masks(image, truth, painted, **more):
    prompts = {k: truth[k].astype(np.uint8) for k in painted}
    return {s.index: s.labels > 0 for s in propagate(image, prompts, **OPTIONS, **more)}


def score(found, truth, but):
    return np.mean([jaccard(found[k], truth[k]) for k in found if k not in but])


def same(found, other):
    return all((found[k] == other[k]).all() for k in found)


@pytest.fixture
def without(monkeypatch):
    """Call it to have nothing pushed."""
    return lambda: monkeypatch.setattr(tips, "TINY", 0.0)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_tip_is_followed_as_it_grows(direction, without):
    image, truth = (x[::direction].copy() for x in cone())
    painted = [0 if direction == 1 else LENGTH - 1]
    found = score(masks(image, truth, painted), truth, painted)
    without()
    assert found > score(masks(image, truth, painted), truth, painted) + 0.2


def test_it_is_not_pushed_to_where_nothing_is(without):
    image, truth = faint([0.0] * 6 + [*(1.5 + 1.5 * np.arange(LENGTH))])
    found = masks(image, truth, [6])
    without()
    usual = masks(image, truth, [6])
    assert all((found[k] == usual[k]).all() for k in range(6))
    assert not same(found, usual)


@pytest.mark.parametrize(
    ("radii", "contrast", "painted"),
    [
        pytest.param([2.2] * LENGTH, 20, [5], id="as large as ever"),
        pytest.param(2.2 - 0.4 * abs(np.arange(LENGTH) - 5), 20, [5], id="a spot"),
        pytest.param(1.5 + 1.5 * np.arange(LENGTH), 90, [0], id="stands out"),
        pytest.param(1.5 + 1.5 * np.arange(LENGTH), 20, [0, 8], id="painted twice"),
        pytest.param(1.5 + 1.5 * np.arange(LENGTH), 20, [4], id="not tiny"),
    ],
)
def test_what_is_no_tip_is_followed_as_ever(radii, contrast, painted, without):
    image, truth = faint(radii, contrast)
    found = masks(image, truth, painted)
    without()
    assert same(found, masks(image, truth, painted))


def test_the_network_of_the_paper_is_left_as_it_is(monkeypatch):
    model = tiny_model(TINY_R50)
    image, truth = cone()
    found = masks(image, truth, [0], model=model)
    monkeypatch.setattr(tips, "begins", None)
    assert same(found, masks(image, truth, [0], model=model)), "nobody asks"


class Torn:
    """An image some slices of which cannot be read; notes which were asked for."""

    def __init__(self, image, readable):
        self.image, self.readable, self.read = image, readable, set()
        self.shape, self.dtype, self.ndim = image.shape, image.dtype, image.ndim

    def __getitem__(self, key):
        index = key[0] if isinstance(key, tuple) else key
        self.read.add(index)
        if index not in self.readable:
            raise RuntimeError("chunk lost")
        return self.image[key]

    def __array__(self, *_, **__):
        raise RuntimeError("all of it")


def test_slices_that_nobody_asked_for_may_be_lost():
    image, _ = cone()
    torn = Torn(image, range(2, 7))
    prompts = {3: faint([2.2] * LENGTH)[1][3].astype(np.uint8)}
    found = list(propagate(torn, prompts, start=2, stop=6, contrast=(0, 255), **OPTIONS))
    assert [s.index for s in sorted(found, key=lambda s: s.index)] == [2, 3, 4, 5]
    assert max(torn.read) <= 7, "no further than what is walked, and as far behind"


def test_a_lack_of_memory_is_no_lost_slice(monkeypatch):
    """The block is halved for it: what is found does not depend on how much memory there is."""
    image, truth = cone()
    usual = masks(image, truth, [0])
    cut, failed = Planes.cut, []

    def scarce(planes, indices, *rest):
        if len(indices) > 1 and not failed:  # the slices that tell a tip
            failed.append(indices)
            raise torch.OutOfMemoryError
        return cut(planes, indices, *rest)

    monkeypatch.setattr(Planes, "cut", scarce)
    with pytest.raises(PropagationError, match="ran out of memory"):
        masks(image, truth, [0])  # one window alone cannot be halved
    assert failed
    assert same(masks(image, truth, [0]), usual)


def test_a_run_that_is_interrupted_goes_on_to_the_same_bits(tmp_path):
    image, truth = cone()
    prompt = {0: truth[0].astype(np.uint8)}
    usual = {
        s.index: s.confidence
        for s in propagate(image, prompt, **OPTIONS, checkpoint=Checkpoint(tmp_path / "usual", 1))
    }
    for item in propagate(image, prompt, **OPTIONS, checkpoint=Checkpoint(tmp_path / "torn", 1)):
        if item.index == 3:
            break
    again = Checkpoint(tmp_path / "torn", 1, resume=True)
    rest = list(propagate(image, prompt, **OPTIONS, checkpoint=again))
    assert rest[0].index <= 4
    for item in rest:
        np.testing.assert_array_equal(item.confidence, usual[item.index])


class TestBegins:
    SAMPLES = 2.0, 2.0

    @pytest.fixture
    def scene(self):
        """What is painted, its slice, one where it is larger, and one where it is not."""
        rows, columns = torch.meshgrid(*[torch.arange(40) - 20] * 2, indexing="ij")
        away = torch.maximum(rows.abs(), columns.abs())
        rough = torch.rand(40, 40, generator=torch.Generator().manual_seed(0)) * 0.2
        mask = away <= 1
        return mask, *(0.4 + rough + 0.08 * (away <= reach) for reach in (1, 6, -1))

    def test_what_lies_around_becomes_like_it(self, scene):
        mask, painted, larger, gone = scene
        larger = larger.expand(2, 40, 40)
        assert begins(mask, painted, larger, gone[None], self.SAMPLES)
        assert begins(mask, painted, larger, gone[:0].reshape(0, 40, 40), self.SAMPLES)
        # dark ones, too
        dark = [1 - x for x in (painted, larger, gone)]
        assert begins(mask, dark[0], dark[1], dark[2][None], self.SAMPLES)

    def test_not_where_it_does_not(self, scene):
        mask, painted, larger, gone = scene
        twice = [x.expand(2, 40, 40) for x in (painted, larger, gone)]
        assert not begins(mask, painted, twice[2], twice[1], self.SAMPLES)
        assert not begins(mask, painted, twice[0], twice[2], self.SAMPLES)
        # grows on either side: the smallest slice of a waist
        assert not begins(mask, painted, twice[1], twice[1], self.SAMPLES)

    @pytest.mark.parametrize("light", [0.0, 1.0])
    def test_one_odd_slice_does_not_decide(self, scene, light):
        mask, painted, larger, gone = scene
        odd = torch.full_like(painted, light)
        for ahead, wanted in (([larger] * 3, True), ([painted] * 3, False)):
            for at in range(4):
                slices = torch.stack([*ahead[:at], odd, *ahead[at:]])
                assert begins(mask, painted, slices, gone[None], self.SAMPLES) is wanted

    def test_not_where_nothing_is_seen(self, scene):
        mask, painted, larger, gone = scene
        nothing = painted[:0].reshape(0, 40, 40)
        assert not begins(mask, painted, nothing, gone[None], self.SAMPLES)
        twice = larger.expand(2, 40, 40)
        assert not begins(torch.ones_like(mask), painted, twice, gone[None], self.SAMPLES)
        assert not begins(mask, painted, larger[None], gone[None], self.SAMPLES), "one says little"


def test_the_push_wears_off():
    assert push(1) == pytest.approx(1)
    assert 0 < push(100) < push(20) < push(5) < 1
    assert push(240) == push(5000) == 0
