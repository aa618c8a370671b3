"""`imos prepare`: splits, frames, the manifest, and a second run into the same folder."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_prepare_camus import save_nifti, video
from test_prepare_epfl import save, volume

from imos_core.cli import main
from imos_core.commands import arguments as command_arguments
from imos_core.data.sources import SequenceSource, sequence_names
from imos_core.errors import FileError
from imos_core.evaluation.protocols import read_sequences
from imos_core.prepare import run as running
from imos_core.prepare.frames import as_frame, as_mask, intensity_range
from imos_core.prepare.recording import Case, Category, Recording
from imos_core.prepare.run import DATASETS, prepare, read_manifest
from imos_core.prepare.sequences import sequences_of
from imos_core.prepare.splits import SPLITS, split_patients


def never():
    raise AssertionError("a split is made before anything is read")


def cases(counts, modality="ct"):
    """Cases of patients p0, p1, ... with so many recordings each."""
    return [
        Case(f"p{p}_{k}", f"p{p}", modality, never) for p, n in enumerate(counts) for k in range(n)
    ]


class TestSplits:
    @given(st.lists(st.integers(1, 4), min_size=1, max_size=60), st.integers(0, 2**31))
    def test_shares(self, counts, seed):
        splits = split_patients(cases(counts), seed)
        n = len(counts)
        assert sorted(splits) == sorted(f"p{p}" for p in range(n))
        sizes = [sum(s == name for s in splits.values()) for name in SPLITS]
        assert abs(sizes[1] - n / 5) <= 1
        assert abs(sizes[2] - n / 5) <= 1
        assert n < 3 or min(sizes) > 0

    @pytest.mark.parametrize(("count", "sizes"), [(5, [3, 1, 1]), (500, [300, 100, 100])])
    def test_three_to_one_to_one(self, count, sizes):
        splits = list(split_patients(cases([1] * count), 0).values())
        assert [splits.count(name) for name in SPLITS] == sizes

    def test_seed(self):
        first, again, other = (split_patients(cases([1] * 40), seed) for seed in (3, 3, 4))
        assert first == again != other

    def test_the_order_of_the_files_does_not_matter(self):
        found = cases([2] * 20)
        assert split_patients(found, 1) == split_patients(found[::-1], 1)

    def test_another_modality_changes_nothing(self):
        ct = cases([1] * 20)
        mri = [Case(f"m{k}", f"m{k}", "mri", never) for k in range(10)]
        both = split_patients(ct + mri, 0)
        assert {p: s for p, s in both.items() if p[0] == "p"} == split_patients(ct, 0)

    def test_a_patient_with_two_modalities_stays_together(self):
        ct = cases([1] * 10)
        mri = cases([1] * 10, "mri")
        assert split_patients(ct + mri, 0) == split_patients(ct, 0)

    def test_what_the_data_set_prescribes(self):
        found = [Case("a", "a", "em", never, "test"), *cases([1] * 5)]
        assert split_patients(found, 0)["a"] == "test"


class TestFrames:
    def test_bytes_stay(self):
        image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
        assert intensity_range(image) == (0, 255)
        np.testing.assert_array_equal(as_frame(image[0], (0.0, 255.0), 0), image[0])

    def test_bytes_in_another_type_stay(self):
        image = np.arange(256).reshape(4, 8, 8).astype(np.float64)
        assert intensity_range(image) == (0, 255)

    def test_outliers_do_not_count(self):
        image = np.random.default_rng(0).normal(500, 50, (8, 64, 64))
        image[0, 0, 0] = 1e7
        low, high = intensity_range(image)
        assert 300 < low < 420
        assert 580 < high < 700

    @pytest.mark.parametrize("value", [0.0, -3.5, np.nan])
    def test_a_constant_image_gives_a_frame(self, value):
        image = np.full((2, 4, 4), value)
        assert as_frame(image[0], intensity_range(image), 6).shape == (6, 6)

    def test_window(self):
        plane = np.array([[-200, -150], [50, 250], [900, 0]], np.int16)
        expected = [[0, 0], [128, 255], [255, 96]]
        np.testing.assert_allclose(as_frame(plane, (-150, 250), 0), expected, atol=1)

    def test_smaller_frames_are_averages(self):
        plane = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (20, 20))
        assert as_frame(plane, (0.0, 255.0), 5).std() < 20

    def test_masks_keep_their_place(self):
        mask = np.zeros((30, 40), bool)
        mask[10:20, 20:40] = True
        resized = as_mask(mask, 60)
        assert resized.shape == (60, 60)
        expected = np.zeros((60, 60), np.uint8)
        expected[20:40, 30:60] = 1
        np.testing.assert_array_equal(resized, expected)


class TestSequences:
    def recording(self, labels, objects):
        image = np.zeros(labels.shape, np.uint8)
        return Recording(image, labels, objects, (1.0, 1.0, 1.0), "pixel")

    def test_frames_without_the_object_between_its_ends_stay(self):
        labels = np.zeros((9, 8, 8), np.uint16)
        labels[[2, 3, 6], 2:5, 2:5] = 4
        (sequence,) = sequences_of(self.recording(labels, {4: ("x", Category("x"))}), 0)
        assert sequence.first == 2
        np.testing.assert_array_equal(sequence.labels.any((1, 2)), [1, 1, 0, 0, 1])

    def test_one_frame_is_no_sequence(self):
        labels = np.zeros((9, 8, 8), np.uint16)
        labels[2, 2:5, 2:5] = 1
        assert not list(sequences_of(self.recording(labels, {1: ("x", Category("x"))}), 0))

    def test_ends_that_vanish_in_small_frames_are_left_out(self):
        labels = np.zeros((6, 64, 64), np.uint8)
        labels[1:5, 16:48, 16:48] = 1
        labels[[0, 5], 1, 1] = 1
        (sequence,) = sequences_of(self.recording(labels, {1: ("x", Category("x"))}), 8)
        assert (sequence.first, len(sequence.labels)) == (1, 4)
        assert sequence.labels[0].any()
        assert sequence.labels[-1].any()

    def test_unknown_labels_are_background(self):
        labels = np.zeros((3, 8, 8), np.int64)
        labels[:, 2:5, 2:5] = 1
        labels[:, 6, 6] = 2**40
        labels[:, 7, 7] = -7
        (sequence,) = sequences_of(self.recording(labels, {1: ("x", Category("x"))}), 0)
        np.testing.assert_array_equal(sequence.labels, labels == 1)


@pytest.fixture
def sources(tmp_path):
    """A small copy of EPFL and one of CAMUS with three patients."""
    for name in ("training", "testing"):
        image, truth = volume()
        save(tmp_path / "epfl", f"{name}.tif", image)
        save(tmp_path / "epfl", f"{name}_groundtruth.tif", truth)
    for n in range(1, 4):
        image, labels = video(n)
        path = tmp_path / "camus" / f"patient{n:04d}" / f"patient{n:04d}_4CH_half_sequence.nii.gz"
        save_nifti(path, image)
        save_nifti(path.with_name(path.name.replace(".nii", "_gt.nii")), labels)
    return tmp_path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def command(sources, name, out, *more):
    return main(["prepare", name, str(sources / name), str(out), "--size", "24", *more])


def files(out):
    return sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())


class TestCommand:
    def test_data_sets(self):
        assert tuple(DATASETS) == command_arguments.DATASETS

    def test_table(self, sources, out, capfd):
        assert command(sources, "camus", out) == 0
        shown = capfd.readouterr()
        assert shown.err == ""
        title, *rows, last, note = shown.out.splitlines()
        assert title.split()[-6:] == ["train", "val", "test", "held", "out", "all"]
        counts = {" ".join(r.split()[1:-5]): [int(n) for n in r.split()[-5:]] for r in rows}
        assert counts == {
            "left atrium": [1, 1, 1, 0, 3],
            "left ventricle endocardium *": [0, 0, 1, 2, 3],
            "left ventricle epicardium": [1, 1, 1, 0, 3],
        }
        assert last == "9 sequences; patients: 1 train, 1 val, 1 test"
        assert note.startswith("* not trained on")

    def test_default_size(self, sources, out):
        assert main(["prepare", "epfl", str(sources / "epfl"), str(out), "--quiet"]) == 0
        for sequence in read_sequences(out / "test"):
            assert sequence.image.shape[1:] == sequence.labels.shape[1:] == (480, 480)

    def test_warnings_are_lines_on_stderr(self, sources, out, capfd):
        (sources / "epfl" / "testing_groundtruth.tif").unlink()
        assert command(sources, "epfl", out, "--quiet") == 0
        shown = capfd.readouterr().err
        assert shown == ("imos prepare: testing is left out: testing_groundtruth.tif is missing.\n")

    def test_damaged_files_say_one_line_in_all(self, sources, out, capfd):
        path = sources / "epfl" / "testing.tif"
        path.write_bytes(path.read_bytes()[:3000])
        (sources / "epfl" / "training.tif").write_text("no image")
        assert command(sources, "epfl", out, "--quiet") == 2
        shown = capfd.readouterr().err.splitlines()
        assert len(shown) == 3
        assert shown[-1].endswith("holds an object: nothing was written.")
        assert files(out) == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["davis", "a", "b"], "invalid choice"),
            (["epfl", "nowhere", "b"], "nowhere is no folder"),
            (["epfl", ".", "b"], "holds no EPFL volumes"),
            (["epfl", ".", "b", "--size", "-3"], "expected one argument|no whole number"),
            (["epfl", ".", "b", "--size", "large"], "no whole number"),
            (["epfl", "."], "required"),
        ],
    )
    def test_bad_input_is_one_line(self, tmp_path, monkeypatch, capfd, arguments, message):
        monkeypatch.chdir(tmp_path)
        assert main(["prepare", *arguments]) == 2
        shown = capfd.readouterr().err
        assert shown.count("\n") == 1
        assert any(part in shown for part in message.split("|"))
        assert not (tmp_path / "b").exists()


class TestManifest:
    def test_lists_what_is_there(self, sources, out):
        command(sources, "camus", out)
        entries = json.loads((out / "manifest.json").read_text())
        held_out = json.loads((out / "held_out" / "manifest.json").read_text())
        assert read_manifest(out) == entries + held_out
        assert sorted(e["file"] for e in entries + held_out) == [
            f for f in files(out) if f.endswith(".npz")
        ]
        assert {e["split"] for e in entries} == set(SPLITS)
        for entry in entries:
            assert entry["file"] == f"{entry['split']}/{entry['name']}.npz"
            assert entry["source"] == "camus"
            assert entry["use"] == "research"
            assert entry["unit"] == "millimeter"
            assert entry["axis"] == "t"
        assert not any(e["seen"] for e in held_out)

    def test_training_uses_what_its_licence_allows(self, sources, out):
        command(sources, "camus", out)
        there = {f"us/{p.stem}" for p in (out / "train" / "us").iterdir()}
        assert not sequence_names(out / "train", ("open",)) & there
        names = sequence_names(out / "train", ("open", "research"))
        drawn = SequenceSource(out / "train", names).draw(np.random.default_rng(0))
        assert drawn.image.shape[1:] == (24, 24)
        assert names >= there

    def test_data_sets_share_a_folder(self, sources, out):
        command(sources, "camus", out)
        camus = files(out)
        command(sources, "epfl", out)
        assert set(camus) < set(files(out))
        assert {e["source"] for e in read_manifest(out)} == {"camus", "epfl"}

    def test_the_same_again_is_the_same(self, sources, out):
        command(sources, "camus", out)
        first = {f: (out / f).read_bytes() for f in files(out) if f.endswith(".json")}
        command(sources, "camus", out)
        assert {f: (out / f).read_bytes() for f in first} == first

    def test_another_seed_leaves_nothing_behind(self, sources, out):
        splits = set()
        for seed in range(6):
            command(sources, "camus", out, "--seed", str(seed))
            listed = read_manifest(out)
            assert sorted(e["file"] for e in listed) == [
                f for f in files(out) if f.endswith(".npz")
            ]
            splits.add(tuple(sorted(e["file"] for e in listed)))
        assert len(splits) > 1

    @pytest.mark.parametrize(
        "content", ["{", '{"a": 1}', '[{"source": "epfl"}]',
                    '[{"source": "epfl", "split": "train", "file": "../../precious.npz"}]']
    )  # fmt: skip
    def test_a_manifest_that_is_not_ours(self, sources, out, content):
        out.mkdir()
        (sources.parent / "precious.npz").touch()
        (out / "manifest.json").write_text(content)
        assert command(sources, "epfl", out) == 2
        assert files(out) == ["manifest.json"]
        assert (out / "manifest.json").read_text() == content


class TestFailure:
    def test_a_link_in_a_circle(self, sources, out):
        (sources / "epfl" / "again").symlink_to(sources / "epfl", target_is_directory=True)
        assert command(sources, "epfl", out) == 0

    def test_destination_is_a_file(self, sources, out, capfd):
        out.write_text("")
        assert command(sources, "epfl", out) == 2
        assert "is a file: give a folder" in capfd.readouterr().err

    def test_nothing_changes_if_there_is_no_room_for_the_manifest(self, sources, out, monkeypatch):
        command(sources, "camus", out)
        before = {f: (out / f).read_bytes() for f in files(out)}

        def fail(path, *args, **more):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_text", fail)
        with pytest.raises(FileError, match="no space left on device"):
            prepare("camus", sources / "camus", out, size=0, seed=5, warn=lambda _: None)
        assert {f: (out / f).read_bytes() for f in files(out)} == before
        assert not list(out.glob(".*"))

    def test_nothing_changes_if_the_disk_is_full(self, sources, out, monkeypatch):
        command(sources, "camus", out)
        before = {f: (out / f).read_bytes() for f in files(out)}
        written = []

        def fail(*args):
            if len(written) == 4:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(original(*args))
            return written[-1]

        original = running.write_sequence
        monkeypatch.setattr(running, "write_sequence", fail)
        with pytest.raises(FileError, match="no space left on device"):
            prepare("camus", sources / "camus", out, size=0, warn=lambda _: None)
        assert {f: (out / f).read_bytes() for f in files(out)} == before
        assert not list(out.glob(".*"))
