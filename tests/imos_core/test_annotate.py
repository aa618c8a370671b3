"""Labelling effort: shape interpolation in closed form, and annotators who stop in time."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from tiny import tiny_model

from imos_core.cli import main
from imos_core.evaluation import annotate as module
from imos_core.evaluation.annotate import STRATEGIES, Annotator, annotate, effort_table
from imos_core.evaluation.interpolation import interpolate_shapes
from imos_core.evaluation.protocols import TrueSequence, tasks_of
from imos_core.metrics import jaccard
from imos_core.weights import save_weights


def disc(radius, row=32, column=32, size=64):
    y, x = np.mgrid[:size, :size]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def test_a_cone_is_interpolated():
    found = interpolate_shapes({0: disc(6), 8: disc(22)}, 9)
    for k, plane in enumerate(found):
        assert jaccard(plane, disc(6 + 2 * k)) > 0.9


def test_what_does_not_overlap_is_moved():
    found = interpolate_shapes({0: disc(6, 12, 12), 4: disc(6, 50, 40)}, 5)
    assert jaccard(found[2], disc(6, 31, 26)) > 0.85


def test_nothing_is_made_beyond_what_is_painted_nor_towards_an_empty_slice():
    found = interpolate_shapes({2: disc(6), 4: disc(6), 6: disc(0) & False}, 9)
    assert [bool(plane.any()) for plane in found] == [False, False, True, True, True] + 4 * [False]


@dataclass
class _Piece:
    index: int
    labels: np.ndarray
    confidence: np.ndarray


@pytest.fixture
def task():
    """A disc that grows, then shrinks, as an object in the middle of a volume."""
    radii = [0, 4, 5, 6, 8, 10, 13, 16, 16, 15, 12, 9, 6, 0]
    labels = np.stack([disc(r) if r else disc(1) & False for r in radii]).astype(np.uint8)
    sequence = TrueSequence("cone", "ct", labels * 99, labels, (1.0, 1.0, 1.0))
    return tasks_of(sequence, "first")[0]


@pytest.fixture
def copying(monkeypatch):
    """An engine that copies the nearest painted slice, and is less sure the farther it is."""
    ranges = []

    def propagate(image, prompts, *, start, stop, **_):
        ranges.append((start, stop))
        for k in range(start, stop):
            near = min(prompts, key=lambda p: abs(p - k))
            sure = 1 - 0.05 * abs(near - k)
            yield _Piece(k, prompts[near], np.full(prompts[near].shape, sure))

    monkeypatch.setattr(module, "propagate", propagate)
    return ranges


def painted(efforts):
    return {(e.strategy, e.goal): e.painted for e in efforts}


def test_a_perfect_engine_needs_one_slice(task, monkeypatch):
    truth = task.sequence.labels[task.start : task.stop]

    def propagate(image, prompts, *, start, stop, **_):
        for k in range(start, stop):
            yield _Piece(k, truth[k], np.ones(truth[k].shape))

    monkeypatch.setattr(module, "propagate", propagate)
    found = painted(annotate(task, None, strategies=("next to check", "worst", "even")))
    assert set(found.values()) == {1}


def test_every_annotator_stops_when_every_slice_is_right(task, copying):
    efforts = list(annotate(task, None, goals=(0.7, 0.9)))
    assert [e.strategy for e in efforts] == [s for s in STRATEGIES for _ in (0, 1)]
    for e in efforts:
        assert 1 < e.painted <= e.slices == 12
        assert e.share == e.painted / 12
    found = painted(efforts)
    for strategy in STRATEGIES:
        assert found[strategy, 0.7] <= found[strategy, 0.9]
    assert found["worst", 0.7] <= found["next to check", 0.7]


def test_slices_that_are_right_are_kept_not_painted(task, copying):
    kept, paint_all = (
        next(iter(annotate(task, None, goals=(0.7,), strategies=(strategy,))))
        for strategy in ("next to check, right ones kept", "next to check")
    )
    assert kept.kept > 0
    assert kept.painted < paint_all.painted
    assert kept.looked == (kept.painted + kept.kept) / 12 <= 1
    assert paint_all.kept == 0
    assert f"{100 * kept.share:.0f} ({100 * kept.looked:.0f})" in effort_table([kept])


def test_a_slice_that_is_kept_prompts_as_it_is(task, monkeypatch):
    given = []

    def propagate(image, prompts, **_):
        given.append({k: plane.sum() for k, plane in prompts.items()})
        return iter(())

    monkeypatch.setattr(module, "propagate", propagate)
    person = Annotator(task, None)
    person.masks[4, 10:12, 10:15] = True
    person.keep(4)
    person.paint(8)
    assert given == [{4: 10, 8: person.truth[8].sum()}]


def test_only_stretches_beside_the_painted_slice_are_walked(task, copying):
    person = Annotator(task, None)
    person.paint(6)
    person.paint(2)
    person.paint(9)
    assert copying == [(0, 12), (0, 7), (6, 12)]
    person.paint(4)
    assert copying[-1] == (2, 7)
    np.testing.assert_array_equal(person.masks[4], person.truth[4])
    assert (person.scores[[2, 4, 6, 9]] == 1).all()


def test_the_table_gives_percent_of_slices(task, copying):
    text = effort_table(list(annotate(task, None, goals=(0.7,), strategies=("worst", "even"))))
    head, row = (line.split("|") for line in text.splitlines()[2:5:2])
    assert [c.strip() for c in head[1:-1]] == ["modality", "objects", "slices", "worst", "even"]
    assert row[1].strip() == "ct"
    assert 0 < int(row[4]) <= 100


def test_the_command_counts_painted_slices(task, copying, tmp_path, capfd):
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    sequence = task.sequence
    call = ["evaluate", "--data", str(tmp_path), "--model", str(tmp_path / "tiny.safetensors")]
    call += ["--protocol", "annotate", "--quiet", "--device", "cpu"]
    np.savez(tmp_path / "cone.npz", image=sequence.image[:7], labels=sequence.labels[:7])
    assert main([*call, "--json"]) == 2
    assert "is in 8 slices: there is nothing to score" in capfd.readouterr().err
    np.savez(tmp_path / "cone.npz", image=sequence.image, labels=sequence.labels)
    assert main([*call, "--json"]) == 0
    efforts = json.loads(capfd.readouterr().out)
    assert {e["strategy"] for e in efforts} == set(STRATEGIES)
    assert all(0 < e["share"] <= 1 for e in efforts)
    assert main([*call, "--baseline", "copy"]) == 2
    assert "--baseline" in capfd.readouterr().err
    assert main([*call, "--adapter", "a.safetensors", "b.safetensors"]) == 2
    assert "one --adapter" in capfd.readouterr().err
    assert main([*call, "--adapter", str(tmp_path / "gone.safetensors")]) == 2
    assert "gone.safetensors does not exist" in capfd.readouterr().err
