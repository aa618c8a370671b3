"""Baselines: what each does where the right answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import disc_volume

from imos_core.evaluation.baselines import (
    BASELINES,
    Interpolation,
    RandomWalk,
    Registration,
    copy_prompt,
)
from imos_core.evaluation.protocols import TrueSequence, tasks_of
from imos_core.evaluation.scoring import evaluate_folder, score
from imos_core.metrics import jaccard

PROTOCOLS = ("first", "last", "middle")


def sequence_of(image, labels):
    return TrueSequence("disc", "toy", image, labels, (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def moving():
    return sequence_of(*disc_volume(7, 64))


@pytest.mark.parametrize("make", [RandomWalk, Registration])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_moving_disc_is_followed(moving, make, protocol):
    (task,) = tasks_of(moving, protocol)
    copied = score(task, protocol, "copy", copy_prompt)
    followed = score(task, protocol, "method", make())
    assert followed.j > 0.9 > copied.j


@pytest.mark.parametrize("make", [RandomWalk, Registration])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_the_range_is_segmented(moving, make, protocol):
    moving = sequence_of(moving.image, np.where(np.arange(7)[:, None, None] % 6, moving.labels, 0))
    (task,) = tasks_of(moving, protocol)
    found = make()(task).any(axis=(1, 2))
    assert not found[: task.start].any()
    assert not found[task.stop :].any()
    assert found[task.start + 1 : task.stop - 1].all()


@pytest.mark.parametrize("make", [RandomWalk, Registration])
def test_colour(moving, make):
    image = np.stack([moving.image] * 3, -1)
    (task,) = tasks_of(sequence_of(image, moving.labels), "first")
    assert score(task, "first", "method", make()).j > 0.9


@pytest.mark.parametrize("make", [RandomWalk, Registration])
@pytest.mark.parametrize("size", [1, 64 * 64])
def test_masks_of_any_size_on_a_flat_image(make, size):
    labels = np.zeros((3, 64 * 64), np.uint8)
    labels[:, :size] = 1
    labels = labels.reshape(3, 64, 64)
    (task,) = tasks_of(sequence_of(np.full((3, 64, 64), 7, np.uint8), labels), "first")
    assert make()(task).shape == labels.shape


def test_a_mask_that_is_lost_stays_lost(moving):
    labels = np.zeros_like(moving.labels)
    labels[:, 0, 0] = 1
    (task,) = tasks_of(sequence_of(moving.image[:, ::-1].copy(), labels), "first")
    method = RandomWalk()
    method._step = lambda frame, before: np.zeros_like(before)
    assert not method(task)[1:].any()


class TestInterpolation:
    def test_both_ends_are_given_and_do_not_count(self, moving):
        for protocol in PROTOCOLS:
            (task,) = tasks_of(moving, protocol)
            found = score(task, protocol, "interpolate", Interpolation())
            assert (found.prompts, found.slices) == (2, 5)
            assert max(d for d, _ in found.by_slice) == 3  # from the nearer end

    def test_a_cylinder_is_exact(self, moving):
        labels = np.broadcast_to(moving.labels[3], moving.labels.shape).copy()
        (task,) = tasks_of(sequence_of(moving.image, labels), "first")
        assert score(task, "first", "interpolate", Interpolation()).j == 1

    def test_both_prompts_are_by_hand(self, moving):
        task = replace(tasks_of(moving, "first")[0], by_hand=True)
        found = Interpolation()(task)
        for k in (task.start, task.stop - 1):
            exact = moving.labels[k] == task.label
            assert 0.5 < jaccard(found[k], exact) < 1

    def test_nothing_is_left_to_score_of_a_pair(self, moving, tmp_path):
        np.savez(tmp_path / "pair.npz", image=moving.image[:2], labels=moving.labels[:2])
        methods = {"interpolate": Interpolation(), "copy": copy_prompt}
        found = list(evaluate_folder(tmp_path, methods, ["first"]))
        assert [r.method for r in found] == ["copy"]

    def test_its_title_says_that_it_is_given_two(self):
        assert BASELINES["interpolate"][0] == "interpolate (2 prompts)"
