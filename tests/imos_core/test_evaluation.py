"""Protocols, baselines and tables."""

from __future__ import annotations

import csv
import io
import json
import time
from itertools import combinations

import numpy as np
import pytest
import torch
from tiny import disc_volume, tiny_model

from imos_core.cli import main
from imos_core.errors import FileError, ImageError
from imos_core.evaluation import baselines
from imos_core.evaluation.baselines import FlowMethod, copy_prompt
from imos_core.evaluation.leak import leak
from imos_core.evaluation.methods import ImosMethod, titles
from imos_core.evaluation.protocols import (
    TrueSequence,
    mirror_images,
    read_sequences,
    tasks_of,
)
from imos_core.evaluation.report import (
    category_tables,
    cost_table,
    direction_table,
    distance_tables,
    score_tables,
    tables,
    to_csv,
    to_json,
)
from imos_core.evaluation.scoring import Result, evaluate_folder, score
from imos_core.evaluation.tables import markdown
from imos_core.weights import save_adapter, save_weights


def test_a_sequence_that_does_not_serve_is_named(tmp_path, sequence):
    (tmp_path / "toy").mkdir()
    arrays = {"image": sequence.image * np.nan, "labels": sequence.labels, "meta": "[" * 9**5}
    path = tmp_path / "toy" / "bad.npz"
    np.savez(path, **arrays)
    methods = {"tiny": ImosMethod(tiny_model(), device="cpu")}
    with pytest.raises(ImageError, match=r"^toy/bad: .*NaN"):
        list(evaluate_folder(tmp_path, methods))
    for spacing in ([np.nan, 1, 1], [1, 0, 1], [1, 1]):
        np.savez(path, **arrays, spacing=spacing)
        with pytest.raises(FileError, match=r"bad\.npz is no readable sequence: its spacing"):
            list(read_sequences(tmp_path))


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


def _block(*areas):
    """Masks of 10 x 10 pixels with these areas."""
    masks = np.zeros((len(areas), 100), bool)
    for mask, area in zip(masks, areas, strict=True):
        mask[:area] = True
    return masks.reshape(-1, 10, 10)


@pytest.mark.parametrize(
    ("found", "area", "share", "slices"),
    [
        ((0, 0, 20, 40, 10, 0, 0), 0.0, 0.0, 4),
        ((40, 40, 0, 0, 0, 40, 40), 1.0, 1.0, 4),
        ((0, 10, 20, 40, 10, 0, 0), 10 / 40 / 4, 1 / 4, 4),
        ((0, 0, 20, 40, 10, 80, 20), 100 / 40 / 4, 2 / 4, 4),
    ],
)
def test_leak_is_what_is_found_beyond_the_ends(found, area, share, slices):
    measured = leak(_block(*found), _block(0, 0, 20, 40, 10, 0, 0))
    assert measured == pytest.approx((area, share, slices))


def test_a_gap_is_no_end():
    # slice 2 is empty, but the object comes back
    assert leak(_block(40, 40, 40), _block(40, 0, 40)) is None
    measured = leak(_block(40, 40, 40, 4), _block(40, 0, 40, 0))
    assert measured == pytest.approx((0.1, 1.0, 1))


def test_there_is_no_leak_of_nothing():
    with pytest.raises(ValueError, match="empty"):
        leak(_block(1, 1), _block(0, 0))
    with pytest.raises(ValueError, match="compared"):
        leak(_block(1, 1), _block(1, 1, 1))


def test_copying_leaks_where_the_object_has_ended(sequence):
    (task,) = tasks_of(sequence, "middle")
    result = score(task, "middle", "copy", copy_prompt)
    # the disc keeps its area, and is copied into both empty slices
    assert (result.leak, result.leaking) == pytest.approx((1.0, 1.0))
    silent = score(task, "middle", "nothing", lambda t: np.zeros(t.sequence.labels.shape, bool))
    assert (silent.leak, silent.leaking) == (0, 0)
    first = score(tasks_of(sequence, "first")[0], "first", "copy", copy_prompt)
    assert (first.leak, first.leaking) == (None, None)


def test_leaks_are_reported_where_there_are_any(sequence):
    results = [
        score(tasks_of(sequence, protocol)[0], protocol, "copy", copy_prompt)
        for protocol in ("first", "middle")
    ]
    first, middle = score_tables(results)
    assert first.columns == ("modality", "method", "objects", "J", "F", "J&F")
    assert middle.columns == (*first.columns, "leak", "leaking")
    assert middle.rows[0].cells[-2:] == ("1.000 (0.00)", "1.000 (0.00)")
    assert [r["leak"] for r in json.loads(to_json(results))] == [None, 1.0]


def test_only_the_modalities_asked_for(sequence, tmp_path):
    for modality in ("toy", "other"):
        (tmp_path / modality).mkdir()
        np.savez(tmp_path / modality / "a.npz", image=sequence.image, labels=sequence.labels)
    assert [s.modality for s in read_sequences(tmp_path, ["toy"])] == ["toy"]
    for asked in (["ct"], ["toy", "ct"]):
        with pytest.raises(FileError, match=r"No sequences of ct were found .*has other, toy"):
            list(read_sequences(tmp_path, asked))


def test_flow_follows_a_moving_disc_better_than_copying():
    pytest.importorskip("cv2")
    image, labels = disc_volume(9, 96)
    sequence = TrueSequence("disc", "toy", image, labels, (1.0, 1.0, 1.0))
    task = tasks_of(sequence, "middle")[0]
    copied = score(task, "middle", "copy", copy_prompt)
    warped = score(task, "middle", "flow", FlowMethod())
    assert warped.j > copied.j + 0.05


@pytest.mark.parametrize(("kept", "computed"), [(100, 8), (3, 8 + 5), (0, 8 + 8)])
def test_flow_of_one_object_serves_the_next_one_as_far_as_there_is_room(
    monkeypatch, kept, computed
):
    cv2 = pytest.importorskip("cv2")
    image, labels = disc_volume(9, 96)
    labels[:, :20, :20] = 2
    tasks = tasks_of(TrueSequence("discs", "toy", image, labels, (1.0, 1.0, 1.0)), "middle")
    assert len(tasks) == 2
    found = [FlowMethod()(task) for task in tasks]
    monkeypatch.setattr(baselines, "_KEPT", kept * 96 * 96 * 8)
    make, made = cv2.DISOpticalFlow_create, []
    monkeypatch.setattr(cv2, "DISOpticalFlow_create", lambda how: made.append(how) or make(how))
    method = FlowMethod()
    np.testing.assert_array_equal([method(task) for task in tasks], found)
    assert len(made) == computed


def test_a_folder_is_evaluated_and_tabulated(sequence, tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    np.savez(folder / "disc.npz", image=sequence.image, labels=sequence.labels)
    (folder / "._disc.npz").write_bytes(b"what a Mac leaves beside a file")
    methods = {"imos": ImosMethod(tiny_model(), precision="float32"), "copy": copy_prompt}
    results = list(evaluate_folder(tmp_path, methods))
    assert [(r.method, r.protocol) for r in results] == [
        ("imos", "first"), ("copy", "first"), ("imos", "middle"), ("copy", "middle"),
    ]  # fmt: skip
    text = markdown(score_tables(results))
    copied = next(r for r in results if r.method == "copy" and r.protocol == "first")
    assert f"{copied.mean:.3f}" in text
    assert "| toy | imos | 1 |" in text


def test_mirror_images_show_image_and_truth_the_same_way(sequence):
    sequence.labels[0, 1, :3] = 1  # off every axis of symmetry
    images = list(mirror_images(sequence))
    marked = [np.argwhere(s.labels[0]).tolist() for s in images]
    assert len(images) == 4
    assert all(a != b for a, b in combinations(marked, 2))
    for mirror in images:
        # the same voxels, in the same slices, under the same labels
        for plane, seen, truth, labels in zip(
            sequence.image, mirror.image, sequence.labels, mirror.labels, strict=True
        ):
            assert sorted(plane[truth > 0].tolist()) == sorted(seen[labels > 0].tolist())


def test_a_mirrored_folder_asks_four_times(sequence, tmp_path):
    (tmp_path / "toy").mkdir()
    np.savez(tmp_path / "toy" / "disc.npz", image=sequence.image, labels=sequence.labels)
    plain = list(evaluate_folder(tmp_path, {"copy": copy_prompt}))
    mirrored = list(evaluate_folder(tmp_path, {"copy": copy_prompt}, mirrored=True))
    scores = [[(r.protocol, r.label, r.j) for r in results] for results in (mirrored, plain * 4)]
    assert scores[0] == scores[1]


def test_a_folder_without_sequences_is_refused(tmp_path):
    with pytest.raises(FileError, match="No sequences"):
        list(read_sequences(tmp_path))


@pytest.mark.parametrize("part", [np.s_[:3], np.s_[:, :7], np.s_[0], np.s_[..., None]])
def test_labels_of_another_shape_are_refused(tmp_path, part):
    image, labels = disc_volume(4)
    np.savez(tmp_path / "a.npz", image=image, labels=labels[part])
    with pytest.raises(FileError, match=r"a\.npz is no readable sequence: its labels are \("):
        list(read_sequences(tmp_path))


def test_a_damaged_sequence_is_named(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(
        FileError, match=r"bad\.npz is no readable sequence: it is no \.npz archive"
    ):
        list(read_sequences(tmp_path))
    np.savez(tmp_path / "bad.npz", image=np.zeros((2, 4, 4)))
    with pytest.raises(FileError, match=r"bad\.npz is no readable sequence: labels is not a file"):
        list(read_sequences(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "methods"), [(["none"], set()), (["copy"], {"copy"}), (None, {"copy"})]
)
def test_the_command_takes_few_objects_and_chosen_baselines(tmp_path, capfd, arguments, methods):
    image, labels = disc_volume(4)
    labels[:, :3, :3] = 2
    np.savez(tmp_path / "a.npz", image=image, labels=labels)
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    call = ["evaluate", "--data", str(tmp_path), "--model", str(tmp_path / "tiny.safetensors")]
    call += ["--max-objects", "1", "--protocol", "first", "--json", "--quiet", "--device", "cpu"]
    if arguments is not None:
        call += ["--baseline", *arguments]
    assert main(call) == 0
    results = json.loads(capfd.readouterr().out)
    assert {r["method"] for r in results} - {"flow"} == {"tiny", *methods}
    assert {r["label"] for r in results} == {1}
    assert all("leak" in r for r in results)


def test_a_model_is_scored_with_adapters_beside_without(tmp_path, capfd):
    image, labels = disc_volume(4)
    np.savez(tmp_path / "a.npz", image=image, labels=labels)
    base = tiny_model()
    save_weights(base, tmp_path / "tiny.safetensors")
    state = base.state_dict()
    # a mask that is nowhere is what this one is known by
    state = {"decoder.pred.bias": torch.full_like(state["decoder.pred.bias"], -100.0)}
    save_adapter(state, base, tmp_path / "empty.safetensors")
    call = ["evaluate", "--data", str(tmp_path), "--model", str(tmp_path / "tiny.safetensors")]
    call += ["--adapter", str(tmp_path / "empty.safetensors"), "--baseline", "none"]
    call += ["--protocol", "first", "--json", "--quiet", "--device", "cpu"]
    assert main(call) == 0
    scores = {r["method"]: r["j"] for r in json.loads(capfd.readouterr().out)}
    assert list(scores) == ["tiny", "tiny + empty"]
    assert scores["tiny"] > scores["tiny + empty"] == 0


@pytest.mark.parametrize("wrong", [["--baseline", "guess"], ["--max-objects", "0"]])
def test_wrong_choices_are_refused(wrong, capfd):
    assert main(["evaluate", "--data", "somewhere", *wrong]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (["imos-compact", "runs/a/tuned.safetensors"], ["imos-compact", "tuned"]),
        (["a/weights.safetensors", "b/weights.safetensors"], ["a/weights", "b/weights"]),
        (["x/a/w.pt", "y/a/w.pt"], ["x/a/w.pt", "y/a/w.pt"]),
    ],
)
def test_models_of_the_same_file_name_are_told_apart(models, expected):
    assert titles(models) == expected


class TestDistance:
    def test_slices_count_by_their_distance_from_the_prompt(self, sequence):
        (task,) = tasks_of(sequence, "middle")
        found = score(task, "middle", "copy", copy_prompt)
        distances = [d for d, _ in found.by_slice]
        # the disc is in slices 1 to 7; the prompt, and slices without it, are not listed
        assert distances == [abs(k - task.prompt) for k in range(1, 8) if k != task.prompt]
        j = dict(found.by_slice)
        assert j[1] > j[2] > j[3]

    def test_bins(self):
        near = result(by_slice=((1, 0.9), (2, 0.8), (4, 0.6)))
        far = result(by_slice=((1, 0.7), (60, 0.1)), modality="us")
        (table,) = distance_tables([near, far])
        assert table.columns[2:] == ("1", "2-4", "5-9", "10-19", "20-49", "50 or more")
        rows = {row.cells[0]: row.cells[2:] for row in table.rows}
        assert rows["ct"] == ("0.900", "0.700", "-", "-", "-", "-")
        assert rows["all objects"] == ("0.800", "0.700", "-", "-", "-", "0.100")

    def test_csv_has_them(self):
        (row,) = csv.DictReader(io.StringIO(to_csv([result(by_slice=((1, 0.5), (3, 0.25)))])))
        assert (row["j_at_1"], row["j_at_2_4"], row["j_at_50_on"]) == ("0.5", "0.25", "")


class TestCost:
    def test_seconds_and_memory(self):
        slow = result("slow", slices=4, seconds=2.0, memory=2 * 10**9)
        (row,) = cost_table([slow, result("slow", slices=6, seconds=1.0)]).rows
        assert row.cells == ("slow", "10", "0.3000", "3.3", "3.00")

    def test_memory_of_a_method_is_seen(self, sequence):
        (task,) = tasks_of(sequence, "first")

        def hungry(task):
            block = np.ones(25_000_000)  # 200 MB
            time.sleep(0.05)
            return np.broadcast_to(task.mask & (block[0] > 0), task.sequence.labels.shape)

        before = score(task, "first", "copy", copy_prompt).memory
        peak = score(task, "first", "hungry", hungry).memory
        assert 1.8e8 < peak - before < 3e8

    def test_the_machine_readable_results_have_them(self):
        (row,) = csv.DictReader(io.StringIO(to_csv([result()])))
        assert (float(row["seconds_per_slice"]), row["memory"]) == (0.2, "3000000000")
        (found,) = json.loads(to_json([result()]))
        assert (found["seconds_per_slice"], found["memory"]) == (0.2, 3 * 10**9)


class TestDirections:
    def test_last_runs_back_from_the_last_slice_of_the_object(self, sequence):
        (task,) = tasks_of(sequence, "last")
        assert (task.prompt, task.start, task.stop, task.direction) == (7, 1, 8, "backward")

    def test_backward_is_forward_on_the_reversed_sequence(self, sequence):
        reversed_sequence = TrueSequence(
            "r", "toy", sequence.image[::-1].copy(), sequence.labels[::-1].copy(), (1.0, 1.0, 1.0)
        )
        (forward,) = tasks_of(reversed_sequence, "first")
        (backward,) = tasks_of(sequence, "last")
        method = ImosMethod(tiny_model(), precision="float32")
        np.testing.assert_array_equal(method(forward)[::-1], method(backward))

    def test_flow_goes_backward_too(self, sequence):
        pytest.importorskip("cv2")
        (task,) = tasks_of(sequence, "last")
        found = FlowMethod()(task).any((1, 2))
        np.testing.assert_array_equal(found, [0, 1, 1, 1, 1, 1, 1, 1, 0])


def result(method="m", protocol="first", category="", seen=None, j=0.5, f=0.7, **more):
    values = {"modality": "ct", "slices": 10, "seconds": 2.0, "memory": 3 * 10**9, **more}
    sequence = f"{category}_1"
    known = {"sequence": sequence, "label": 1, "category": category, "seen": seen, "j": j, "f": f}
    return Result(method=method, protocol=protocol, **known, **values)


class TestCategories:
    def test_sequences_pass_on_what_they_say(self, sequence, tmp_path):
        arrays = {"image": sequence.image, "labels": sequence.labels}
        meta = json.dumps({"category": "liver", "seen": False, "other": 3})
        np.savez(tmp_path / "a.npz", **arrays, meta=np.array(meta))
        np.savez(tmp_path / "b.npz", **arrays)
        np.savez(tmp_path / "c.npz", **arrays, meta=np.array("remarks, no JSON"))
        np.savez(tmp_path / "d.npz", **arrays, meta=np.array('["a list"]'))
        read = [(s.category, s.seen) for s in read_sequences(tmp_path)]
        assert read == [("liver", False), ("", None), ("", None), ("", None)]
        (first, *_) = evaluate_folder(tmp_path, {"copy": copy_prompt}, ["first"])
        assert (first.category, first.seen) == ("liver", False)

    def test_stars_and_means(self):
        (table,) = category_tables(
            [
                result(category="spleen", seen=True, j=0.8, f=0.9),
                result(category="spleen", seen=True, j=0.6, f=0.7),
                result(category="aorta", seen=False, j=0.2, f=0.4),
            ]
        )
        text = table.markdown()
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert rows == [
            "| category | method | objects | J | F | J&F |",
            "| ct spleen | m | 2 | 0.700 (0.10) | 0.800 (0.10) | 0.750 (0.10) |",
            r"| ct aorta \* | m | 1 | 0.200 (0.00) | 0.400 (0.00) | 0.300 (0.00) |",
            "| **seen** | m | 2 | 0.700 (0.10) | 0.800 (0.10) | 0.750 (0.10) |",
            "| **unseen** | m | 1 | 0.200 (0.00) | 0.400 (0.00) | 0.300 (0.00) |",
        ]
        assert text.endswith(r"\* not trained on")

    def test_methods_and_protocols(self):
        first, last = category_tables(
            [
                result(method, protocol, "fat", True)
                for protocol in ("first", "last")
                for method in ("base", "tuned")
            ]
        )
        assert last.title == "Protocol last (backward), by category"
        for table in (first, last):
            assert [row.cells[:2] for row in table.rows] == [("ct fat", "base"), ("", "tuned")]

    def test_directions_side_by_side(self):
        results = [
            result(protocol=protocol, category="fat", seen=True, j=j, f=j)
            for protocol, j in (("middle", 0.9), ("last", 0.6), ("first", 0.7))
        ]
        lines = direction_table(results).markdown().splitlines()
        assert lines[2] == "|  | method | forward | backward | both ways |"
        assert lines[4] == "| ct fat | m | 0.700 (0.00) | 0.600 (0.00) | 0.900 (0.00) |"

    def test_only_the_tables_that_say_something(self):
        plain = [result(protocol="first"), result(protocol="middle")]
        assert tables(plain) == [*score_tables(plain), cost_table(plain)]
        known = [result(category="fat", seen=True)]
        assert tables(known) == [
            *score_tables(known), *category_tables(known), cost_table(known)
        ]  # fmt: skip
        both = [*known, result(protocol="last", category="fat", seen=True)]
        assert direction_table(both) in tables(both)

    def test_csv(self):
        text = to_csv([result(category="fat", seen=True), result(j=1 / 3)])
        first, second = csv.DictReader(io.StringIO(text))
        assert (first["category"], first["seen"], first["leak"]) == ("fat", "true", "")
        assert (second["category"], second["seen"]) == ("", "")
        assert float(second["j"]) == 1 / 3
        assert float(second["j_and_f"]) == (1 / 3 + 0.7) / 2

    def test_command(self, sequence, tmp_path, capfd):
        arrays = {"image": sequence.image, "labels": sequence.labels}
        for name, seen in (("spleen", True), ("liver", False)):
            meta = np.array(json.dumps({"category": name, "seen": seen}))
            np.savez(tmp_path / f"{name}.npz", **arrays, meta=meta)
        save_weights(tiny_model(), tmp_path / "tiny.safetensors")
        call = ["evaluate", "--data", str(tmp_path), "--model", str(tmp_path / "tiny.safetensors")]
        call += ["--baseline", "none", "--quiet", "--device", "cpu", "--protocol", "directions"]
        assert main(call) == 0
        shown = capfd.readouterr().out
        assert r"| all liver \* | tiny | 1 |" in shown
        assert "| method | forward | backward | both ways |" in shown
        assert main([*call, "--csv"]) == 0
        rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
        assert [(r["category"], r["protocol"]) for r in rows] == [
            (name, protocol)
            for name in ("liver", "spleen")
            for protocol in ("first", "last", "middle")
        ]
