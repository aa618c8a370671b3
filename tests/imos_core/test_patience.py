"""Patience: walks whose label is gone end, nobody else notices, and every slice comes once."""

from __future__ import annotations

import threading
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY_R50, tiny_model
from walking import WalkingBlock

from imos_core import propagate
from imos_core.anchors import Contribution
from imos_core.errors import PromptError
from imos_core.walking import rounds
from imos_core.walking.checkpoint import Checkpoint

LENGTH, SIDE = 14, 24
MODEL = tiny_model()


class Scripted(WalkingBlock):
    """A block of legs that finds every label where a script says, in rows of its own."""

    script: ClassVar[dict[int, list[bool]]] = {}
    asked: ClassVar[Counter[tuple[int, int]]] = Counter()

    def segment(self):
        found = []
        for leg, step in self.legs:
            index = leg.slices[step]
            self.asked[leg.label, index] += 1
            here = np.full((2, SIDE), 0.9 if self.script[leg.label][index] else 0.1, np.float32)
            rows = slice(2 * leg.label, 2 * leg.label + 2)
            found.append(Contribution(leg, index, (rows, slice(0, SIDE)), here))
        return found


@pytest.fixture(autouse=True, scope="module")
def scripted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "WindowCohort", Scripted)
        yield


IMAGE = np.random.default_rng(0).integers(0, 255, (LENGTH, SIDE, SIDE), np.uint8)


def run(script, painted, **options):
    """Propagate labels that are found where a script says; also return the prompts."""
    Scripted.script = script
    Scripted.asked.clear()
    prompts = {}
    for label, anchors in painted.items():
        for k in anchors:
            plane = prompts.setdefault(k, np.zeros((SIDE, SIDE), np.uint8))
            plane[2 * label : 2 * label + 2] = label
    return propagate(IMAGE, prompts, model=MODEL, device="cpu", **options), prompts


def shown(*slices):
    return [k in slices for k in range(LENGTH)]


def test_a_label_that_is_gone_is_no_more_work():
    script = {1: shown(*range(2, 7), 12), 2: [True] * LENGTH}
    slices, _ = run(script, {1: [4], 2: [4]}, patience=3)
    found = {item.index: set(np.unique(item.labels)) - {0} for item in slices}
    assert {k for k, ids in found.items() if 1 in ids} == {2, 3, 4, 5, 6}
    assert {k for k, ids in found.items() if 2 in ids} == set(range(LENGTH))
    assert {k for label, k in Scripted.asked if label == 1} == {0, 1, 2, 3, 5, 6, 7, 8, 9}
    assert {k for label, k in Scripted.asked if label == 2} == set(range(LENGTH)) - {4}


@pytest.mark.parametrize(
    ("back", "patience", "comes"),
    [(9, "auto", True), (11, "auto", False), (11, None, True), (9, 3, False)],
)
def test_how_long_a_label_may_be_away(back, patience, comes):
    slices, _ = run({1: shown(4, back)}, {1: [4]}, patience=patience)
    found = {item.index for item in slices if item.labels.any()}
    assert found == ({4, back} if comes else {4})


def test_between_two_painted_slices_nothing_ends():
    slices, _ = run({1: shown(1, 12)}, {1: [1, 12]}, patience=2)
    found = {item.index: bool(item.labels.any()) for item in slices}
    assert [k for k, any_ in found.items() if any_] == [1, 12]
    assert all(Scripted.asked[1, k] == 2 for k in range(2, 12)), "from both sides"


labels = st.dictionaries(
    st.integers(1, 3),
    st.tuples(
        st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH),
        st.sets(st.integers(0, LENGTH - 1), min_size=1, max_size=3),
    ),
    min_size=1,
)
ways = st.sampled_from(["both", "forward", "backward"])


def lost(seen, anchors, prompts, start, stop):
    """Slices on which a label has ended after three without it, painted ones of others aside."""
    beyond = set()
    after = range(anchors[-1] + 1, stop)
    for way in (after, range(anchors[0] - 1, start - 1, -1)):
        walked = [k for k in way if start <= k < stop]
        open_ = [k for k in walked if k not in prompts]
        for first, _, last in zip(open_, open_[1:], open_[2:], strict=False):
            if not any(seen[k] for k in open_[open_.index(first) : open_.index(last) + 1]):
                beyond |= set(walked[walked.index(last) + 1 :])
                break
    return beyond


@settings(max_examples=60, deadline=None)
@given(labels, ways, st.integers(0, 3), st.integers(9, LENGTH), st.integers(1, 2))
def test_the_rest_is_as_without(labels, direction, start, stop, batch):
    script = {label: seen for label, (seen, _) in labels.items()}
    painted = {label: sorted(anchors) for label, (_, anchors) in labels.items()}
    options = {"direction": direction, "start": start, "stop": stop, "batch": batch}
    whole, prompts = run(script, painted, patience=None, **options)
    gone = {label: lost(script[label], painted[label], prompts, start, stop) for label in script}
    expected = {}
    for item in whole:
        plane = item.labels.copy()
        if item.index not in prompts:
            plane[np.isin(plane, [label for label in gone if item.index in gone[label]])] = 0
        expected[item.index] = plane
    slices, _ = run(script, painted, patience=3, **options)
    found = list(slices)
    assert sorted(item.index for item in found) == sorted(expected), "every slice, once"
    for item in found:
        np.testing.assert_array_equal(item.labels, expected[item.index])


@settings(max_examples=40, deadline=None)
@given(labels, st.integers(1, LENGTH), st.integers(1, 4))
def test_it_goes_on_where_it_was_interrupted(tmp_path_factory, labels, count, n):
    script = {label: seen for label, (seen, _) in labels.items()}
    painted = {label: sorted(anchors) for label, (_, anchors) in labels.items()}
    whole, _ = run(script, painted, patience=n)
    expected = {item.index: item for item in whole}
    folder = tmp_path_factory.mktemp("checkpoint")
    cancel, found = threading.Event(), {}
    slices, _ = run(script, painted, patience=n, cancel=cancel, checkpoint=Checkpoint(folder, 3))
    for item in slices:
        found[item.index] = item
        if len(found) >= count:
            cancel.set()
    slices, _ = run(script, painted, patience=n, checkpoint=Checkpoint(folder, 3, resume=True))
    if len(found) < len(expected):
        rest = {item.index: item for item in slices}
        assert not rest.keys() & found.keys(), "what was finished stays finished"
        found |= rest
    assert found.keys() == expected.keys()
    for index, item in expected.items():
        np.testing.assert_array_equal(found[index].labels, item.labels)


def test_what_was_walked_is_not_walked_again_after_an_interruption(tmp_path):
    """Label 1 is gone from slice 2 on; the run is killed among the slices that nobody comes to."""
    options = {"patience": 2, "direction": "forward"}
    slices, _ = run({1: shown(0, 1)}, {1: [0]}, checkpoint=Checkpoint(tmp_path, 3), **options)
    for item in slices:
        if item.index == 8:
            break
    assert {k for _, k in Scripted.asked} == {1, 2, 3}
    slices, _ = run(
        {1: shown(0, 1)}, {1: [0]}, checkpoint=Checkpoint(tmp_path, 3, resume=True), **options
    )
    assert [item.index for item in slices] == list(range(4, LENGTH))
    assert not Scripted.asked


def test_whole_slices_end_when_all_have_ended():
    model = tiny_model(TINY_R50)
    image = np.random.default_rng(0).integers(0, 255, (9, 32, 32), np.uint8)
    prompt = np.zeros((32, 32), np.uint8)
    prompt[4:12, 4:12], prompt[20:28, 20:28] = 1, 2
    calls = []
    segment = rounds.WholeSliceCohort.segment

    def counted(self):
        calls.append(self._step)
        found = segment(self)
        for one in found:
            one.patch[:] = 0
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds.WholeSliceCohort, "segment", counted)
        slices = propagate(image, {0: prompt}, model=model, device="cpu", window="full", patience=2)
        assert [item.index for item in slices] == list(range(9))
    assert calls == [0, 1]


@pytest.mark.parametrize("patience", [0, -1, 1.5, "3"])
def test_what_is_no_number_of_slices_is_refused(patience):
    prompts = {0: np.ones((8, 8), np.uint8)}
    with pytest.raises(PromptError, match="patience"):
        propagate(np.zeros((3, 8, 8)), prompts, model=MODEL, device="cpu", patience=patience)
