"""Lookahead: slices are encoded together before their turn, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, disc_volume, tiny_model

from imos_core import propagate
from imos_core.errors import FileError
from imos_core.model.flow import optical_flow
from imos_core.walking import budget, cohort
from imos_core.walking.lookahead import Lookahead
from imos_core.weights import load_model
from imos_core.windows import Window

SIDE = 32
MODEL = tiny_model(replace(TINY, window_size=SIDE, flow=True))


class Cuts:
    """Windows of made-up slices; takes notes of what is asked for."""

    def __init__(self, broken=()):
        self.asked = []
        self._broken = broken

    def cut(self, indices, windows):
        self.asked.append(list(indices))
        for index in indices:
            if index in self._broken:
                raise FileError(f"Slice {index} of the image cannot be read.")
        cut = torch.stack([self.slice(k, w) for k, w in zip(indices, windows, strict=True)])
        return cut, cut.mean(1)

    def slice(self, index, window):
        noise = torch.Generator().manual_seed(1000 * index + int(window.y))
        return torch.rand(3, SIDE, SIDE, generator=noise)


def window(y):
    return Window(float(y), 0.0, 40.0, 40.0)


def walk(cuts, most, moves, starts=(10,), steps=12):
    """Frames, features and flow of every step; `moves` says where windows are on a slice."""
    lookahead, found = Lookahead(MODEL, cuts, most), []
    before = torch.stack([cuts.slice(k - 1, window(0)) for k in starts])
    with torch.inference_mode():
        for step in range(steps):
            paths = [range(k + step, k + steps) for k in starts]
            seen = lookahead.see(paths, [window(moves(k + step)) for k in starts], before)
            found.append(seen)
            before = seen.frames
    return found


def test_few_windows_see_several_slices_at_once():
    cuts = Cuts()
    walk(cuts, 8, lambda k: 0)
    # further every time, never beyond the end
    assert cuts.asked == [[10], [11, 12], [13, 14, 15, 16], [17, 18, 19, 20, 21]]


def test_both_sides_go_together():
    cuts = Cuts()
    walk(cuts, 8, lambda k: 0, starts=(10, 50), steps=7)
    assert cuts.asked == [[10, 50], [11, 51, 12, 52], [13, 53, 14, 54, 15, 55, 16, 56]]


def test_many_windows_do_not_look_ahead():
    cuts = Cuts()
    walk(cuts, 8, lambda k: 0, starts=(10, 20, 30, 40, 50), steps=3)
    assert [len(asked) for asked in cuts.asked] == [5, 5, 5]


def test_windows_that_move_begin_anew():
    cuts = Cuts()
    walk(cuts, 8, lambda k: 0 if k < 14 else 5, steps=8)
    # what was seen of 14 and beyond was seen in the wrong place
    assert cuts.asked == [[10], [11, 12], [13, 14, 15, 16], [14], [15, 16], [17]]


@pytest.mark.parametrize("moves", [lambda k: 0, lambda k: k // 5, lambda k: k])
@pytest.mark.parametrize("starts", [(10,), (10, 50), (10, 30, 50)])
def test_what_is_seen_does_not_depend_on_how_far(moves, starts):
    near, far = (walk(Cuts(), most, moves, starts) for most in (1, 8))
    for a, b in zip(near, far, strict=True):
        torch.testing.assert_close(a.frames, b.frames, rtol=0, atol=0)
        torch.testing.assert_close(a.grey, b.grey, rtol=0, atol=0)
        torch.testing.assert_close(a.flow, b.flow, rtol=1e-4, atol=1e-4)
        for one, other in zip(a.features, b.features, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_flow_is_that_from_the_slice_before():
    cuts = Cuts()
    found = walk(cuts, 8, lambda k: 0, starts=(10, 50))
    before = torch.stack([cuts.slice(k, window(0)) for k in (9, 49)])
    for seen in found:
        flow = optical_flow(seen.frames.mean(1, keepdim=True), before.mean(1, keepdim=True))
        torch.testing.assert_close(seen.flow, flow, rtol=1e-4, atol=1e-4)
        before = seen.frames


def test_a_slice_that_cannot_be_read_is_missed_when_its_turn_comes():
    cuts = Cuts(broken={15})
    lookahead = Lookahead(MODEL, cuts, 8)
    before = cuts.slice(9, window(0))[None]
    with torch.inference_mode():
        for k in range(10, 15):
            before = lookahead.see([range(k, 30)], [window(0)], before).frames
        with pytest.raises(FileError, match="Slice 15"):
            lookahead.see([range(15, 30)], [window(0)], before)


def test_what_has_no_room_is_seen_one_slice_at_a_time_from_then_on(monkeypatch):
    encode, calls = type(MODEL).encode_query, []

    def tight(self, frames):
        calls.append(len(frames))
        if len(frames) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, frames)

    monkeypatch.setattr(type(MODEL), "encode_query", tight)
    walk(Cuts(), 8, lambda k: 0, steps=8)
    assert calls == [1, 2, 4, 1, 1, 1, 1, 1]


def test_a_network_without_flow_is_not_given_any():
    plain = tiny_model(replace(TINY, window_size=SIDE))
    cuts = Cuts()
    before = cuts.slice(9, window(0))[None]
    assert Lookahead(plain, cuts, 8).see([range(10, 30)], [window(0)], before).flow is None


class TestPropagation:
    @staticmethod
    def labels(image, prompts, most, monkeypatch, **options):
        for module in (budget, cohort):
            monkeypatch.setattr(module, "MOST_AHEAD", most)
        found = propagate(image, prompts, device="cpu", **options)
        return {s.index: s.labels for s in found}

    @pytest.mark.parametrize("precision", ["float32", "int8"])
    def test_the_same_masks(self, precision, monkeypatch):
        image, labels = disc_volume(25)
        prompts, model = {12: labels[12]}, load_model("imos-compact")
        near, far = (
            self.labels(image, prompts, most, monkeypatch, model=model, precision=precision)
            for most in (1, 8)
        )
        assert sorted(near) == sorted(far) == list(range(25))
        for k in near:
            np.testing.assert_array_equal(near[k], far[k])

    def test_the_encoder_is_asked_half_as_often(self, monkeypatch):
        image, labels = disc_volume(33)
        model = tiny_model(replace(TINY, window_size=SIDE))
        encode, calls = type(model).encode_query, []

        def counted(self, frames):
            calls.append(len(frames))
            return encode(self, frames)

        def stays(self, features, readout, hidden, *, update_hidden=True, guide=None):
            return (guide.previous_mask - 0.5) * 12, hidden

        monkeypatch.setattr(type(model), "encode_query", counted)
        monkeypatch.setattr(type(model), "decode", stays)
        still = np.repeat(image[:1], 33, 0)
        self.labels(still, {0: labels[0]}, 8, monkeypatch, model=model)
        assert sum(calls) == 33, "every slice is encoded once"
        assert max(calls) == 8
        assert len(calls) <= 33 / 4

    def test_slices_before_a_damaged_one_are_delivered(self):
        image, labels = disc_volume(20)

        class Damaged:
            shape, dtype, ndim = image.shape, image.dtype, 3

            def __getitem__(self, where):
                first = where[0] if isinstance(where, tuple) else where
                if isinstance(first, int | np.integer) and first >= 13:
                    raise OSError("disk gone")
                return image[where]

        run = propagate(Damaged(), {2: labels[2]}, contrast=(0, 255), device="cpu")
        found = {next(run).index for _ in range(13)}
        assert found == set(range(13))
        with pytest.raises(FileError, match="Slice 13"):
            next(run)
