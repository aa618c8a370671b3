"""Rough prompts: near the truth, and beside it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imos_core import cli
from imos_core.evaluation.protocols import TrueSequence, tasks_of
from imos_core.evaluation.rough import roughen
from imos_core.metrics import jaccard

ROWS, COLUMNS = np.mgrid[:60, :70]


def ellipse(height, width):
    return ((ROWS - 30) / height) ** 2 + ((COLUMNS - 35) / width) ** 2 <= 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(8, 24), width=st.integers(8, 24))
def test_the_contour_strays_as_far_as_asked(seed, height, width):
    mask = ellipse(height, width)
    kept = mask.copy()
    rough = roughen(mask, np.random.default_rng(seed), strays=0.08)
    assert np.array_equal(mask, kept)
    assert 0.6 < jaccard(rough, mask) <= 1
    if min(height, width) >= 14:  # the contour of smaller ones may stray by less than a pixel
        assert jaccard(rough, mask) < 1
    assert np.array_equal(roughen(mask, np.random.default_rng(seed), strays=0.0), mask)


def test_on_average_it_is_neither_too_large_nor_too_small():
    mask = ellipse(18, 18)
    areas = [roughen(mask, np.random.default_rng(k), strays=0.06).sum() for k in range(100)]
    assert 0.97 < np.mean(areas) / mask.sum() < 1.03


@pytest.mark.parametrize("mask", [ellipse(0.5, 0.5), ellipse(100, 100)])
def test_a_pixel_and_a_full_slice_stay(mask):
    for seed in range(5):
        assert roughen(mask, np.random.default_rng(seed), strays=9.0).any()
    assert mask.any()


def true_sequence():
    labels = np.stack([5 * ellipse(14, 14 + k) for k in range(4)])
    return TrueSequence("disc", "mri", (labels * 20).astype(np.uint8), labels, (1.0, 1.0, 1.0))


def test_tasks_by_hand_paint_beside_the_truth_and_always_the_same():
    sequence = true_sequence()
    kept = sequence.labels.copy()
    (exact,) = tasks_of(sequence, "first")
    rough = replace(exact, by_hand=True)
    assert np.array_equal(exact.mask, sequence.labels[0] == 5)
    assert 0.7 < jaccard(rough.mask, exact.mask) < 0.98
    assert np.array_equal(rough.mask, rough.mask)
    assert np.array_equal(sequence.labels, kept)


def test_the_command_line_prompts_by_hand(tmp_path, capsys):
    sequence = true_sequence()
    (tmp_path / "mri").mkdir()
    np.savez(tmp_path / "mri" / "disc.npz", image=sequence.image, labels=sequence.labels)
    found = []
    for extra in ([], ["--by-hand"]):
        given = ["evaluate", "--data", str(tmp_path), "--baseline", "copy", "--protocol", "first"]
        assert cli.main([*given, "--json", "--quiet", *extra]) == 0
        rows = json.loads(capsys.readouterr().out)
        found.append(next(r["j"] for r in rows if r["method"] == "copy"))
    assert found[1] < found[0]


def test_annotators_do_not_paint_by_hand(tmp_path, capsys):
    given = ["evaluate", "--data", str(tmp_path), "--protocol", "annotate"]
    assert cli.main([*given, "--by-hand"]) != 0
    assert "annotators paint exactly" in capsys.readouterr().err
    assert cli.main([*given, "--ends"]) != 0
    assert "annotators keep to the object" in capsys.readouterr().err


def test_ends_that_somebody_has_said(tmp_path, capsys):
    sequence = true_sequence()
    labels = sequence.labels.copy()
    labels[:2] = labels[6:] = 0  # the image shows it there all the same
    (tmp_path / "mri").mkdir()
    np.savez(tmp_path / "mri" / "disc.npz", image=sequence.image, labels=labels)
    given = ["evaluate", "--data", str(tmp_path), "--protocol", "middle", "--baseline", "none"]
    assert cli.main([*given, "--ends", "--json", "--quiet"]) == 0
    plain, said = json.loads(capsys.readouterr().out)
    assert said["method"] == "imos-compact, ends said"
    assert plain["leaking"] == 1
    assert said["leaking"] == 0
    assert said["by_slice"] == plain["by_slice"]
