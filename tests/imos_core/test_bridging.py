"""Damage: a lost slice ends no object, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny import TINY, tiny_model

from imos_core import propagate
from imos_core.config import MemoryConfig
from imos_core.errors import FileError, ImageError
from imos_core.metrics import jaccard
from imos_core.review import SURE, expected_jaccard
from imos_core.walking import cohort
from imos_core.walking.checkpoint import Checkpoint
from imos_core.walking.journey import Journey
from imos_core.walking.sight import Sight

LENGTH, SIDE = 10, 80
OPTIONS = {"device": "cpu", "precision": "float32"}


def disc():
    """A bright disc that grows a little from slice to slice, and where it is."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    radius = 11 + 0.3 * np.arange(LENGTH)[:, None, None]
    truth = np.hypot(rows, columns) < radius
    noise = np.random.default_rng(0).normal(0, 8, truth.shape)
    return np.clip(80 + 90 * truth + noise, 0, 255).astype(np.uint8), truth


def spoilt(image, kind, *where):
    image = image.copy()
    noise = np.random.default_rng(1).integers(0, 256, image.shape)
    image[list(where)] = {"black": 0, "white": 255, "noise": noise[list(where)]}[kind]
    return image


def masks(image, painted, **more):
    """What is found: index -> mask, of a disc that is painted on some slices."""
    truth = disc()[1]
    prompts = {k: truth[k].astype(np.uint8) for k in painted}
    found = propagate(image, prompts, **OPTIONS, **more)
    return {s.index: s.labels > 0 for s in found}


def scores(image, painted=(0,), **more):
    truth, found = disc()[1], masks(image, painted, **more)
    return [float(jaccard(found[k], truth[k])) for k in range(LENGTH)]


@pytest.fixture
def without(monkeypatch):
    """Call it to have damaged slices segmented as others are."""
    return lambda: monkeypatch.setattr(cohort, "FARTHEST", 0)


@pytest.mark.parametrize(
    ("kind", "where"),
    [("black", [4]), ("white", [4]), ("noise", [4]), ("black", [4, 5]), ("white", [2, 3, 4])],
)
def test_an_object_is_carried_over_damaged_slices(kind, where, without):
    image = spoilt(disc()[0], kind, *where)
    found = scores(image)
    assert min(found) > 0.8
    assert min(found[where[-1] + 1 :]) > 0.9
    without()
    assert min(scores(image)) == 0, "else it would have been found anyway"


@pytest.mark.parametrize("painted", [[9], [5], [0, 9], [0, 4]])
def test_wherever_it_is_painted(painted):
    """Backward, both ways, and between two painted slices, one of them right behind the damage."""
    found = scores(spoilt(disc()[0], "black", 3, 7), painted)
    assert min(found) > 0.75


def test_colours():
    image = np.stack([spoilt(disc()[0], "white", 4)] * 3, -1)
    assert min(scores(image, channels_last=True)) > 0.8


def test_a_person_is_asked_to_look_at_it():
    image, truth = disc()
    image = spoilt(image, "black", 1)
    found = propagate(image, {0: truth[0].astype(np.uint8)}, **OPTIONS)
    expected = [expected_jaccard(s.confidence, s.labels, s.index) for s in found]
    assert expected[1] == min(expected[1:])
    assert expected[1] < SURE - 0.01


@pytest.mark.parametrize("kind", ["black", "white", "noise"])
def test_what_goes_dark_for_good_has_ended(kind, without):
    image = spoilt(disc()[0], kind, *range(4, LENGTH))
    found = masks(image, [0])
    assert not any(found[k].any() for k in range(5, LENGTH))
    without()
    usual = masks(image, [0])
    assert all((usual[k] == found[k]).all() for k in found)


def test_a_scene_that_changes_for_good_is_not_held_back(without):
    image, _ = disc()
    rough = np.random.default_rng(3).integers(0, 200, (SIDE // 8, SIDE // 8))
    image[5:] = np.kron(rough, np.ones((8, 8))) + image[5:] // 8
    found = masks(image, [0])
    without()
    usual = masks(image, [0])
    assert all((usual[k] == found[k]).all() for k in found)


def test_an_undamaged_image_is_segmented_as_ever(without):
    image, _ = disc()
    found = masks(image, [3])
    without()
    usual = masks(image, [3])
    assert all((usual[k] == found[k]).all() for k in found)


def test_damage_at_the_last_slice_is_not_told_from_an_end():
    found = masks(spoilt(disc()[0], "black", LENGTH - 1), [0])
    assert found[LENGTH - 2].any()
    assert not found[LENGTH - 1].any()


def test_presence_is_not_judged_there(monkeypatch):
    known, judge = [], Journey.next

    def noted(self, *arguments):
        known.append(self)
        return judge(self, *arguments)

    monkeypatch.setattr(Journey, "next", noted)
    masks(spoilt(disc()[0], "noise", 4), [0])
    # as it was before the slice, after it; the first slice is 1
    same = [torch.equal(a.course, b.course) for a, b in pairwise(known)]
    assert same == [k == 3 for k in range(LENGTH - 2)]


def several():
    """Four discs, one of which has gone dark for a slice alone; and their labels."""
    image, truth = disc()
    image, labels = (np.kron(np.ones((1, 2, 2), x.dtype), x) for x in (image, truth))
    labels = labels.astype(np.uint8)
    for i, corner in enumerate(np.ndindex(2, 2)):
        rows, columns = (slice(SIDE * c, SIDE * (c + 1)) for c in corner)
        labels[:, rows, columns] *= i + 1
    image[4, :SIDE, :SIDE] = 0
    image[6] = 255
    return image, labels


def test_of_several_objects_only_those_that_lie_there_are_carried():
    image, labels = several()
    usual = list(propagate(image, {0: labels[0]}, **OPTIONS))
    for k, item in enumerate(usual):
        same = [jaccard(item.labels == i, labels[k] == i) for i in (1, 2, 3, 4)]
        assert min(same) > 0.8, k
    sure = [usual[4].confidence[labels[4] == i].mean() for i in (1, 2, 3, 4)]
    assert sure[0] < min(sure[1:]) - 0.02
    # however they go through the network
    for item, other in zip(
        propagate(image, {0: labels[0]}, batch=1, **OPTIONS), usual, strict=True
    ):
        assert (item.labels == other.labels).mean() > 0.999


@pytest.mark.parametrize("stop", [3, 4, 5, 6])
def test_a_run_that_is_interrupted_there_goes_on_to_the_same_bits(stop, tmp_path):
    image, labels = several()
    image[4:6] = 0
    usual = {
        s.index: s
        for s in propagate(
            image, {0: labels[0]}, **OPTIONS, checkpoint=Checkpoint(tmp_path / "usual", 1)
        )
    }
    for item in propagate(
        image, {0: labels[0]}, **OPTIONS, checkpoint=Checkpoint(tmp_path / "torn", 1)
    ):
        if item.index == stop:
            break
    again = Checkpoint(tmp_path / "torn", 1, resume=True)
    rest = list(propagate(image, {0: labels[0]}, **OPTIONS, checkpoint=again))
    assert rest[0].index <= stop
    for item in rest:
        np.testing.assert_array_equal(item.labels, usual[item.index].labels)
        np.testing.assert_array_equal(item.confidence, usual[item.index].confidence)


@pytest.mark.parametrize("gone", [True, False])
def test_slices_before_one_that_cannot_be_read_are_delivered(gone):
    """Though damaged ones among them ask for it before its turn; or it has another shape."""
    image, truth = disc()
    image = spoilt(image, "black", 4, 5)

    class Broken:
        shape, dtype, ndim = image.shape, image.dtype, 3

        def __getitem__(self, where):
            first = where[0] if isinstance(where, tuple) else where
            if isinstance(first, int | np.integer) and first >= 6:
                if gone:
                    raise OSError("disk gone")
                return image[first, :-1]
            return image[where]

    run = propagate(Broken(), {0: truth[0].astype(np.uint8)}, contrast=(0, 255), **OPTIONS)
    assert [next(run).index for _ in range(6)] == list(range(6))
    with pytest.raises(FileError if gone else ImageError, match="Slice 6"):
        next(run)


class TestTraces:
    """What the network is shown around a damaged slice, by one that finds every mask again."""

    BAD = 4

    @pytest.fixture
    def model(self, monkeypatch):
        model = tiny_model(replace(TINY, window_size=64))

        def stays(self, features, readout, hidden, *, update_hidden=True, guide=None):
            return (guide.previous_mask - 0.5) * 12, hidden + 1

        monkeypatch.setattr(type(model), "decode", stays)
        return model

    @pytest.fixture
    def moving(self, monkeypatch):
        """Call it to let windows move by some pixels behind a slice."""

        def at(index):
            def followed(self, here, label, window, first, box):
                return replace(window, y=window.y + 2.0) if here == index else window

            monkeypatch.setattr(Sight, "followed", followed)

        return at

    def test_nothing_of_it_is_memorised(self, model, monkeypatch):
        memorised = []
        encode = type(model).encode_value

        def noted(self, frames, *arguments, **more):
            memorised.append(frames.clone())
            return encode(self, frames, *arguments, **more)

        monkeypatch.setattr(type(model), "encode_value", noted)
        image = spoilt(disc()[0], "black", self.BAD)
        masks(image, [0], model=model, memory=MemoryConfig(memorize_every=1))
        assert len(memorised) == LENGTH - 1
        # the slice before in its place
        assert torch.equal(memorised[self.BAD], memorised[self.BAD - 1])
        assert not torch.equal(memorised[self.BAD], memorised[self.BAD + 1])

    def test_what_the_network_keeps_in_mind_passes_over_it(self, model, monkeypatch):
        minds, decode = [], type(model).decode

        def noted(self, features, readout, hidden, **more):
            minds.append(hidden.mean().item())
            return decode(self, features, readout, hidden, **more)

        monkeypatch.setattr(type(model), "decode", noted)
        image = spoilt(disc()[0], "black", self.BAD)
        masks(image, [0], model=model, memory=MemoryConfig(memorize_every=100))
        steps = np.diff(minds)
        # which grows by 1 from slice to slice
        assert steps[self.BAD - 1] == 0
        assert np.delete(steps, self.BAD - 1) == pytest.approx(1, abs=1e-4)

    @pytest.mark.parametrize("behind", [BAD - 1, BAD])
    def test_windows_that_move_there_show_the_slice_before(
        self, behind, model, moving, monkeypatch
    ):
        moving(behind)
        shown, decode = [], type(model).decode

        def noted(self, features, readout, hidden, *, update_hidden=True, guide=None):
            again = self.encode_query(guide.previous_frame).f4
            shown.append(guide.previous_frame.clone())
            torch.testing.assert_close(guide.previous_f4, again)
            return decode(self, features, readout, hidden, update_hidden=update_hidden, guide=guide)

        monkeypatch.setattr(type(model), "decode", noted)
        image, _ = disc()
        image[:] = image[0]
        masks(spoilt(image, "white", self.BAD), [0], model=model)
        # from one slice to the next nothing changes but where the window is
        before, after = shown[:behind], shown[behind:]
        assert all(torch.equal(f, before[0]) for f in before)
        assert all(torch.equal(f, after[0]) for f in after)
        assert not torch.equal(before[0], after[0])

    def test_halves_know_what_they_have_seen(self, model, moving, monkeypatch):
        """A block that runs out of memory behind the damage is halved, and the windows move."""
        moving(self.BAD)
        image, labels = several()
        image[:] = image[0]
        image = spoilt(image, "black", self.BAD)
        usual = [s.labels for s in propagate(image, {0: labels[0]}, model=model, **OPTIONS)]
        one = [s.labels for s in propagate(image, {0: labels[0]}, model=model, batch=3, **OPTIONS)]
        run = propagate(image, {0: labels[0]}, model=model, **OPTIONS)
        torn = [next(run).labels for _ in range(self.BAD + 1)]
        encode = type(model).encode_query

        def tight(self, frames):
            if len(frames) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return encode(self, frames)

        monkeypatch.setattr(type(model), "encode_query", tight)
        with pytest.warns(UserWarning, match="ran out of memory"):
            torn += [s.labels for s in run]
        for a, b, c in zip(usual, one, torn, strict=True):
            assert (a == b).mean() > 0.999
            assert (a == c).mean() > 0.999
