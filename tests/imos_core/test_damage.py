"""Damage: which windows are damaged, and what is kept of them, in closed forms."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.nn import functional as F

from imos_core.anchors import Leg
from imos_core.model.presence import Looks, PresenceHead
from imos_core.walking.damage import SAMPLES, damaged, doubted, kept, likeness
from imos_core.walking.journey import Journey
from imos_core.walking.row import Row
from imos_core.windows import Window


def texture(seed):
    """A window of 96 samples, and the same with those of a comparison."""
    rough = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
    window = F.interpolate(rough, (96, 96), mode="bicubic")[0].clamp(0, 1)
    return window, F.adaptive_avg_pool2d(window, SAMPLES)


class TestLikeness:
    @pytest.mark.parametrize(("gain", "offset"), [(1, 0), (0.3, 0), (0.5, 0.4), (0.2, 0.8)])
    def test_light_does_not_matter(self, gain, offset):
        window, same = texture(0)
        assert likeness(window, gain * same + offset).item() == pytest.approx(1, abs=1e-5)
        assert likeness(window, offset - gain * same).item() == pytest.approx(-1, abs=1e-5)

    def test_half_of_it_has_changed(self):
        rows = torch.arange(SAMPLES)
        stripes = ((rows // 4) % 2).float()[:, None].expand(-1, SAMPLES)
        other = ((rows // 8) % 2).float()[:, None].expand(-1, SAMPLES)
        before = stripes.repeat_interleave(3, 0).repeat_interleave(3, 1)[None]
        assert likeness(before, other[None]).item() == pytest.approx(0, abs=1e-6)
        # two patterns that know nothing of each other, and are as strong
        half = (stripes + other)[None] / 2
        assert likeness(before, half).item() == pytest.approx(0.5**0.5, abs=1e-5)

    @pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
    def test_where_nothing_is_to_be_seen_it_is_exactly_nothing(self, level):
        window, same = texture(0)
        flat = torch.full_like(same, level)
        assert likeness(window, flat).item() == 0
        # nor in what is left of it, nor in the noise of a camera
        assert likeness(window, flat + 0.05 * same).item() == 0
        assert likeness(window, flat + 0.01 * texture(1)[1]).item() == 0

    def test_where_nothing_was_to_be_seen_nothing_is_lost(self):
        flat, (window, same) = torch.full((1, 96, 96), 0.2), texture(0)
        for now in (same, torch.zeros_like(same)):
            assert likeness(flat, now).item() == 1
        # it does not take much to be seen
        assert likeness(0.01 * window, same).item() == pytest.approx(1, abs=1e-4)

    def test_members_of_a_batch_do_not_know_each_other(self):
        windows, _ = (torch.cat(x) for x in zip(*map(texture, range(4)), strict=True))
        _, now = (torch.cat(x) for x in zip(*map(texture, (0, 5, 2, 6)), strict=True))
        together = likeness(windows, now)
        alone = [likeness(windows[i : i + 1], now[i : i + 1]) for i in range(4)]
        torch.testing.assert_close(together, torch.cat(alone))
        assert (together > 0.9).tolist() == [True, False, True, False]


class TestDecision:
    @staticmethod
    def found(first, *later, paths=None):
        """Whether a window is damaged, and which slices ahead have been looked at."""
        asked = []

        def look(rows, indices):
            assert rows == [0]
            asked.extend(indices)
            return [later[indices[0] - 1]]

        path = range(1, 1 + len(later)) if paths is None else paths
        return damaged([first], [list(path)], look) == [0], len(asked)

    def test_what_resembles_the_slice_before_is_not_looked_into(self):
        assert self.found(0.31, 1.0) == (False, 0)

    @pytest.mark.parametrize("ahead", [1, 2, 3])
    def test_what_was_there_before_comes_back(self, ahead):
        assert self.found(0.1, *[0.05] * (ahead - 1), 0.7) == (True, ahead)

    def test_too_little_comes_back(self):
        assert self.found(0.1, 0.1, 0.1, 0.6) == (False, 3)
        # more than nothing, but that was between them, too
        assert self.found(0.3, 0.59, 0.59, 0.59) == (False, 3)
        assert self.found(0.1, 0.4, 0.7) == (False, 2)

    def test_behind_nothing_at_all_less_is_enough(self):
        assert self.found(0.0, 0.36) == (True, 1)
        assert self.found(0.01, 0.36) == (False, 1)
        assert self.found(0.0, 0.0, 0.36) == (True, 2)
        assert self.found(0.0, 0.2, 0.36) == (False, 2)

    def test_it_is_too_far(self):
        assert self.found(0.0, 0.0, 0.0, 0.0, 0.9, paths=(1, 2, 3)) == (False, 3)
        assert self.found(0.0, paths=()) == (False, 0)

    def test_many_windows_are_asked_together_and_only_as_long_as_need_be(self):
        asked = []
        answers = {(0, 5): 0.9, (2, 7): 0.1, (3, 9): 0.0, (2, 8): 0.8}

        def look(rows, indices):
            asked.append(rows)
            return [answers[pair] for pair in zip(rows, indices, strict=True)]

        ahead = [[5, 6], [5, 6], [7, 8], [9]]
        assert damaged([0.0, 0.9, 0.2, 0.0], ahead, look) == [0, 2]
        assert asked == [[0, 2, 3], [2]]

    def test_slices_ahead_of_a_leg(self):
        forward = Leg(1, 2, "forward", (3, 4, 5, 6), (2,))
        assert forward.ahead(0, 3) == (4, 5, 6)
        assert forward.ahead(2, 3) == (6,)
        assert forward.ahead(3, 3) == ()
        enclosed = Leg(1, 7, "backward", (6, 5, 4, 3), (7, 2))
        assert enclosed.ahead(0, 3) == (5, 4, 3)
        assert enclosed.ahead(2, 3) == (3, 2), "the painted one, too"
        assert enclosed.ahead(3, 3) == (2,)


def test_a_doubted_mask_is_the_same_mask():
    prob = torch.tensor([0.0, 0.1, 0.5, 0.500001, 0.7, 1.0])
    less = doubted(prob)
    assert torch.equal(less > 0.5, prob > 0.5)
    assert torch.equal(less[:3], prob[:3]), "where there is nothing, nothing is said"
    assert less[4:].tolist() == pytest.approx([0.6, 0.75])


def test_rows_that_are_kept():
    now, before = torch.arange(6.0).view(3, 2), torch.full((3, 2), -1.0)
    assert kept(now, before, [0, 2]).tolist() == [[-1, -1], [2, 3], [-1, -1]]
    assert now[0].tolist() == [0, 1], "the step can be undone"


def test_a_row_comes_back_as_it_was():
    leg, mask = Leg(1, 2, "forward", (3, 4, 5, 6), (2,)), torch.zeros(1)
    box = (slice(1, 9), slice(2, 8))
    row = Row(leg, Window(5.0, 5, 8, 8), Window(4, 5, 9, 9), 5, 4, mask, box, box, 3, 40.0)
    assert Row.of(row.state(), {leg.name: leg}, mask) == row


def test_presence_does_not_know_of_a_damaged_slice():
    torch.manual_seed(0)
    head = PresenceHead(8)
    torch.nn.init.normal_(head.outer.weight)

    def looks(count):
        return Looks(*(torch.rand(count, 4) if i == 1 else torch.rand(count) for i in range(8)))

    start = Journey.start(head, looks(3))
    travel, pixel = torch.ones(3, 2), torch.ones(3)
    before = start.next(head, looks(3), travel, pixel)
    after = before.next(head, looks(3), 2 * travel, pixel)
    mixed = after.keep(before, [1])
    for i, same in enumerate((after, before, after)):
        chosen = torch.tensor([i])
        ours, theirs = mixed.select(chosen).state(), same.select(chosen).state()
        for name in ("largest", "course", "present"):
            assert torch.equal(ours[name], theirs[name])
        for x, y in zip(chain(*ours["looks"]), chain(*theirs["looks"]), strict=True):
            assert torch.equal(x, y)
    again = Journey.of(mixed.state(), torch.device("cpu"))
    assert torch.equal(again.present, mixed.present)
