"""Where labels end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_patience import IMAGE, LENGTH, MODEL, Scripted, labels, run, scripted, ways  # noqa: F401
from tiny import TINY_R50, tiny_model

from imos_core import propagate
from imos_core.cli import main
from imos_core.errors import FileError, PromptError
from imos_core.files.jobs import read_jobs
from imos_core.files.propagate import FileJob
from imos_core.walking.checkpoint import Checkpoint
from imos_core.walking.ending import Ending, unreached

PLANE = np.array([[0, 1, 2, 1]], np.uint8)


def test_a_label_that_a_person_erased_does_not_go_on_behind():
    ending = Ending({1: [5], 2: [5]}, {1: [9]})
    np.testing.assert_array_equal(ending.cut(8, PLANE), PLANE)
    assert ending.cut(8, PLANE) is PLANE
    np.testing.assert_array_equal(ending.cut(9, PLANE), [[0, 0, 2, 0]])
    np.testing.assert_array_equal(ending.cut(10, PLANE), [[0, 0, 2, 0]])
    np.testing.assert_array_equal(ending.cut(3, PLANE), PLANE)


def test_unless_an_anchor_beyond_shows_it_again():
    ending = Ending({1: [5, 15]}, {1: [9]})
    assert not ending.ended(1, 12)
    both = Ending({1: [5, 15]}, {1: [8, 12]})
    assert both.ended(1, 10)
    assert not both.ended(1, 7)
    assert not both.ended(1, 13)


@given(st.dictionaries(st.integers(0, 11), st.booleans()))
def test_all_slices_at_once_are_as_one_by_one(shows):
    painted, erased = (sorted(k for k in shows if shows[k] is which) for which in (True, False))
    ending = Ending({1: painted}, {1: erased})
    over = unreached(painted, erased)
    for k in set(range(12)) - set(painted):
        comes = any(
            not any(min(a, k) <= e <= max(a, k) for e in erased)
            and not any(min(a, k) < b < max(a, k) for b in painted)
            for a in painted
        )
        assert any(k in some for some in over) is ending.ended(1, k) is not comes


@pytest.mark.parametrize(
    ("painted", "empty", "shown"),
    [([3], [6], range(6)), ([6], [2, 4, 9], range(5, 9)), ([3, 9], [6], {*range(LENGTH)} - {6})],
)
def test_an_empty_prompt_says_that_all_labels_have_ended(painted, empty, shown):
    Scripted.script = {1: [True] * LENGTH}
    prompts = {k: np.uint8(IMAGE[k] * 0 + (k in painted)) for k in [*painted, *empty]}

    def found(**options):
        slices = propagate(IMAGE, prompts, model=MODEL, device="cpu", **options)
        return {item.index for item in slices if item.labels.any()}

    assert found() == {*shown}
    # unless somebody says where they end, or that nothing is said of them there
    assert found(ends={}) == {*range(LENGTH)} - {*empty}
    assert found(through={1: empty}) == {*range(LENGTH)}


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, {1: range(8), 2: range(8)}),
        ({"through": {1: [8]}}, {1: range(LENGTH), 2: range(8)}),
        # not empty: what is painted there is no label that was asked for, or does not count
        ({"labels": 1, "through": {2: [6]}}, {1: range(8)}),
    ],
)
def test_it_says_so_of_each_label_by_itself(options, shown):
    Scripted.script = {1: [True] * LENGTH, 2: [True] * LENGTH}
    both = np.uint8(IMAGE[3] * 0)
    both[2:4], both[4:6] = 1, 2
    prompts = {3: both, 6: np.where(both == 2, both, 0), 8: both * 0}
    if "labels" not in options:
        del prompts[6]
    found = {label: set() for label in shown}
    for item in propagate(IMAGE, prompts, model=MODEL, device="cpu", **options):
        for label in found:
            if (item.labels == label).any():
                found[label].add(item.index)
    assert found == {label: {*where} for label, where in shown.items()}


marks = st.dictionaries(st.integers(1, 3), st.sets(st.integers(0, LENGTH - 1), max_size=3))


BEFORE_THE_RANGE = {3: ([False] * LENGTH, {0})}, {3: {1}}, "both", 2, 9, 1


@settings(max_examples=60, deadline=None)
@example(*BEFORE_THE_RANGE)
@given(labels, marks, ways, st.integers(0, 3), st.integers(9, LENGTH), st.integers(1, 2))
def test_the_engine_says_the_same_but_for_what_has_ended(
    labels, marks, direction, start, stop, batch
):
    script = {label: seen for label, (seen, _) in labels.items()}
    painted = {label: sorted(anchors) for label, (_, anchors) in labels.items()}
    ends = {i: sorted(ks - {*painted[i]}) for i, ks in marks.items() if i in painted}
    options = {"direction": direction, "start": start, "stop": stop, "batch": batch}
    whole, prompts = run(script, painted, patience=None, **options)
    ending = Ending(painted, ends)
    expected = {
        item.index: item.labels if item.index in prompts else ending.cut(item.index, item.labels)
        for item in whole
    }
    found, _ = run(script, painted, patience=None, ends=ends, **options)
    found = list(found)
    assert sorted(item.index for item in found) == sorted(expected), "every slice, once"
    for item in found:
        np.testing.assert_array_equal(item.labels, expected[item.index])
    for label, (*_, last) in painted.items():
        beyond = [k for k in ends.get(label, ()) if k > last]
        walked = [k for i, k in Scripted.asked if i == label]
        assert not beyond or max(walked, default=0) <= min(beyond), "no work behind an end"
        before = [k for k in ends.get(label, ()) if k < painted[label][0]]
        assert not before or min(walked, default=LENGTH) >= max(before), "on either side"


def test_a_run_that_was_interrupted_does_not_go_on_with_other_ends(tmp_path):
    seen = {1: [True] * LENGTH}
    slices, _ = run(seen, {1: [2]}, ends={1: [9]}, checkpoint=Checkpoint(tmp_path, 2))
    assert next(iter(slices)).index == 2
    for item in slices:
        if item.index == 6:
            break
    slices.close()
    with pytest.raises(FileError):
        run(seen, {1: [2]}, ends={1: [8]}, checkpoint=Checkpoint(tmp_path, 2, resume=True))
    rest, _ = run(seen, {1: [2]}, ends={1: [9]}, checkpoint=Checkpoint(tmp_path, 2, resume=True))
    assert {item.index: bool(item.labels.any()) for item in rest}[9] is False


@pytest.mark.parametrize("ended", [[1], [1, 2]])
def test_whole_slices_end_too_and_to_one_side_only(ended):
    image = np.random.default_rng(0).integers(0, 255, (8, 32, 32), np.uint8)
    prompt = np.zeros((32, 32), np.uint8)
    prompt[4:12, 4:12], prompt[18:28, 16:28] = 1, 2
    model = tiny_model(TINY_R50)
    options = {"model": model, "device": "cpu", "window": "full"}
    whole = {item.index: item.labels for item in propagate(image, {4: prompt}, **options)}
    options["ends"] = {label: [6] for label in ended}
    found = {item.index: item.labels for item in propagate(image, {4: prompt}, **options)}
    assert set(found) == set(range(8))
    for index, plane in found.items():
        if index >= 6:
            assert not np.isin(plane, ended).any()
        else:
            np.testing.assert_array_equal(plane, whole[index])


def test_a_label_that_was_not_asked_for_may_have_an_end():
    prompt = np.zeros(IMAGE.shape[1:], np.uint8)
    prompt[2:4], prompt[6:8] = 1, 2
    propagate(IMAGE, {3: prompt}, labels=1, ends={2: [7]}, model=MODEL, device="cpu")


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ({1: [3]}, "where it is painted"),
        ({1: [LENGTH]}, "the image has slices 0 to 13"),
        ({1: [-1]}, "the image has slices 0 to 13"),
        ({9: [7]}, r"Label 9 cannot end, as it is not painted .*: choose from \[1\]"),
        ({1: "x"}, "must be whole numbers"),
        ([1, 5], "Ends are slices by label"),
    ],
)
def test_what_is_no_end_is_refused(ends, words):
    prompt = np.zeros(IMAGE.shape[1:], np.uint8)
    prompt[2:4] = 1
    with pytest.raises(PromptError, match=words):
        propagate(IMAGE, {3: prompt}, model=MODEL, device="cpu", ends=ends)


def test_the_command_line_and_lists_of_jobs_say_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Scripted.script, 1, [True] * LENGTH)
    painted = np.zeros_like(IMAGE)
    painted[3, 2:4] = 1
    np.save("image.npy", IMAGE)
    np.save("painted.npy", painted)
    command = ["propagate", "image.npy", "painted.npy", "-o", "out.npy", "--quiet"]
    assert main([*command, "--ended", "1:9,1:1"]) == 0
    assert np.flatnonzero(np.load("out.npy").any((1, 2))).tolist() == list(range(2, 9))
    assert main([*command, "--ended", "9:8"]) == 2
    assert "Label 9 cannot end" in capsys.readouterr().err
    assert main([*command, "--ended", "1"]) == 2
    assert "such as 3:45,3:12" in capsys.readouterr().err
    assert main([*command, "--ended", "1:9", "--series"]) == 2
    assert "--ended is for one volume" in capsys.readouterr().err
    (tmp_path / "jobs.csv").write_text("image,labels,output,ended\na,b,c,1:9 2:4\nd,e,f,\n")
    first, second = read_jobs("jobs.csv")
    assert (first.absent, second.absent) == ({1: [9], 2: [4]}, FileJob(*"def").absent)
    (tmp_path / "jobs.csv").write_text("image,labels,output,ended\na,b,c,9\n")
    with pytest.raises(PromptError, match="labels, each with a slice, such as 3:45"):
        read_jobs("jobs.csv")
