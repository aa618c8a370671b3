"""Protocols, baselines and tables."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import disc_volume, tiny_model

from imos_core.errors import FileError
from imos_core.evaluation.methods import FlowMethod, ImosMethod, copy_prompt
from imos_core.evaluation.protocols import (
    TrueSequence,
    evaluate_folder,
    read_sequences,
    score,
    tasks_of,
)
from imos_core.evaluation.report import table


@pytest.fixture
def sequence():
    image, labels = disc_volume(9)
    labels[[0, 8]] = 0  # the disc is there from slice 1 to 7
    labels[4, :2, :2] = 2  # seen once: no task
    return TrueSequence("disc", "toy", image, labels, (1.0, 1.0, 1.0))


def test_first_runs_from_the_first_to_the_last_slice_of_the_object(sequence):
    (task,) = tasks_of(sequence, "first")
    assert (task.label, task.prompt, task.start, task.stop) == (1, 1, 1, 8)
    assert task.direction == "forward"


def test_middle_runs_from_the_largest_slice_through_everything(sequence):
    sequence.labels[5] = np.maximum(sequence.labels[5], 0)
    sequence.labels[5, 20:22, 1:3] = 1
    (task,) = tasks_of(sequence, "middle")
    assert (task.prompt, task.start, task.stop, task.direction) == (5, 0, 9, "both")


def test_objects_can_be_thinned_out():
    labels = np.tile(np.arange(1, 21).reshape(1, 4, 5), (3, 1, 1))
    sequence = TrueSequence("many", "toy", labels.astype(np.uint8), labels, (1.0, 1.0, 1.0))
    assert [t.label for t in tasks_of(sequence, "first", 3)] == [1, 11, 20]


def test_copying_a_still_object_is_perfect(sequence):
    labels = np.broadcast_to(sequence.labels[4] == 1, sequence.labels.shape).astype(np.uint16)
    still = TrueSequence("still", "toy", sequence.image, labels, (1.0, 1.0, 1.0))
    result = score(tasks_of(still, "middle")[0], "middle", "copy", copy_prompt)
    assert (result.j, result.f, result.mean) == (1, 1, 1)


def test_copying_through_empty_slices_is_punished(sequence):
    result = score(tasks_of(sequence, "middle")[0], "middle", "copy", copy_prompt)
    # of eight slices that count, two are empty and score 0
    assert result.j < 6 / 8


@pytest.mark.parametrize("kind", ["dis-medium", "farneback"])
@pytest.mark.parametrize("soft", [True, False])
def test_flow_follows_a_moving_disc_better_than_copying(kind, soft):
    pytest.importorskip("cv2")
    image, labels = disc_volume(9, 96)
    sequence = TrueSequence("disc", "toy", image, labels, (1.0, 1.0, 1.0))
    task = tasks_of(sequence, "middle")[0]
    copied = score(task, "middle", "copy", copy_prompt)
    warped = score(task, "middle", "flow", FlowMethod(kind, soft=soft))
    assert warped.j > copied.j + 0.05


def test_a_folder_is_evaluated_and_tabulated(sequence, tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    np.savez(folder / "disc.npz", image=sequence.image, labels=sequence.labels)
    methods = {"imos": ImosMethod(tiny_model(), precision="float32"), "copy": copy_prompt}
    results = list(evaluate_folder(tmp_path, methods))
    assert [(r.method, r.protocol) for r in results] == [
        ("imos", "first"), ("copy", "first"), ("imos", "middle"), ("copy", "middle"),
    ]  # fmt: skip
    text = table(results)
    copied = next(r for r in results if r.method == "copy" and r.protocol == "first")
    assert f"{copied.mean:.3f}" in text
    assert "| toy | 1 |" in text


def test_a_folder_without_sequences_is_refused(tmp_path):
    with pytest.raises(FileError, match="No sequences"):
        list(read_sequences(tmp_path))


def test_a_damaged_sequence_is_named(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(FileError, match=r"bad\.npz"):
        list(read_sequences(tmp_path))
