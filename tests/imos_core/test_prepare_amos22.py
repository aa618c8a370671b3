"""The AMOS22 reader, on a copy in the native layout with the mistakes that copies have."""

from __future__ import annotations

import gzip
import json
import re

import nibabel
import numpy as np
import pytest

from imos_core.errors import FileError
from imos_core.evaluation.protocols import read_sequences, tasks_of
from imos_core.prepare.run import prepare

ORGANS = (
    "background", "spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver",
    "stomach", "arota", "postcava", "pancreas", "right adrenal gland", "left adrenal gland",
    "duodenum", "bladder", "prostate/uterus",
)  # fmt: skip
SHAPE = (20, 18, 7)
AFFINE = np.diag([0.8, 0.9, 5.0, 1.0])


def volume(seed=0):
    """Image in Hounsfield units and labels of all fifteen organs, in the axes of the file."""
    labels = np.zeros(SHAPE, np.uint8)
    for organ in range(1, 16):
        x, y = divmod(organ - 1, 4)
        labels[5 * x : 5 * x + 4, 4 * y : 4 * y + 4, 1 : 3 + organ % 4] = organ
    image = np.random.default_rng(seed).normal(0, 20, SHAPE) + 10 * labels
    return image.astype(np.int16), labels


def save(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)


def describe(folder, labels=None):
    folder.mkdir(parents=True, exist_ok=True)
    labels = {str(k): name for k, name in enumerate(ORGANS)} if labels is None else labels
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


@pytest.fixture
def source(tmp_path):
    """Three CT volumes, of which one is for validation, and two of MRI."""
    folder = tmp_path / "amos22"
    describe(folder)
    for number, part in ((1, "Tr"), (4, "Tr"), (8, "Va"), (507, "Tr"), (600, "Va")):
        image, labels = volume(number)
        save(folder / f"images{part}" / f"amos_{number:04d}.nii.gz", image)
        save(folder / f"labels{part}" / f"amos_{number:04d}.nii.gz", labels)
    return folder


@pytest.fixture
def run(source, tmp_path):
    """Prepare the copy; entries and warnings."""

    def prepared(**options):
        warnings = []
        options = {"size": 0} | options
        entries = prepare("amos22", source, tmp_path / "out", warn=warnings.append, **options)
        return entries, warnings

    return prepared


def load(tmp_path, entry):
    with np.load(tmp_path / "out" / entry["file"]) as file:
        return {name: file[name] for name in file.files}


def by_name(entries):
    return {e["name"]: e for e in entries}


def test_sequences_of_seven_organs(run):
    entries, warnings = run()
    assert warnings == []
    assert len(entries) == 5 * 7
    seen = {e["category"]: e["seen"] for e in entries}
    assert seen == {
        "spleen": True, "right kidney": True, "left kidney": True, "oesophagus": False,
        "liver": False, "stomach": False, "aorta": False,
    }  # fmt: skip
    modalities = {e["patient"]: e["modality"] for e in entries}
    assert modalities == {
        "amos_0001": "ct", "amos_0004": "ct", "amos_0008": "ct",
        "amos_0507": "mri", "amos_0600": "mri",
    }  # fmt: skip


def test_a_sequence_is_the_object_from_first_to_last_slice(run, tmp_path):
    entries, _ = run()
    entry = by_name(entries)["ct/amos_0001_left_kidney"]
    arrays = load(tmp_path, entry)
    image, labels = volume(1)
    mask = (labels == 3).transpose(2, 1, 0)
    present = np.flatnonzero(mask.any((1, 2)))
    assert (entry["first"], entry["last"]) == (present[0], present[-1]) == (1, 5)
    np.testing.assert_array_equal(arrays["labels"], mask[1:6])
    window = np.clip((image.transpose(2, 1, 0)[1:6].astype(float) + 150) / 400, 0, 1)
    np.testing.assert_allclose(arrays["image"], 255 * window, atol=0.51)
    assert arrays["image"].dtype == np.uint8
    np.testing.assert_allclose(arrays["spacing"], (5, 0.9, 0.8), rtol=1e-5)
    assert json.loads(str(arrays["meta"])) == entry


def test_the_window_depends_on_the_region(run):
    entries, _ = run()
    windows = {(e["modality"], e["category"]): e["window"] for e in entries}
    assert windows["ct", "liver"] == [-150, 250]
    assert windows["ct", "aorta"] == windows["ct", "oesophagus"] == [-125, 225]
    assert windows["mri", "liver"] == windows["mri", "aorta"] != [-150, 250]


def test_size_and_spacing(run, tmp_path):
    entries, _ = run(size=40)
    entry = by_name(entries)["ct/amos_0001_spleen"]
    arrays = load(tmp_path, entry)
    assert entry["shape"] == [3, 40, 40] == list(arrays["image"].shape)
    np.testing.assert_allclose(entry["spacing"], (5, 0.9 * 18 / 40, 0.8 * 20 / 40), rtol=1e-5)
    # the spleen has 4 of 20 columns and 4 of 18 rows
    assert np.count_nonzero(arrays["labels"][0]) == pytest.approx(8 * 4 * 40 / 18, rel=0.05)


def test_evaluation_reads_them(run, tmp_path):
    run(size=30)
    sequences = list(read_sequences(tmp_path / "out" / "test"))
    assert {s.modality for s in sequences} == {"ct", "mri"}
    for sequence in sequences:
        (task,) = tasks_of(sequence, "first")
        assert (task.start, task.stop) == (0, len(sequence.labels))


def test_patients_are_in_one_split_and_stars_not_in_training(run):
    entries, _ = run()
    splits = {}
    for entry in entries:
        if entry["split"] != "held_out":
            splits.setdefault(entry["patient"], set()).add(entry["split"])
    assert all(len(s) == 1 for s in splits.values())
    ct = [splits[f"amos_{n:04d}"] for n in (1, 4, 8)]
    assert sorted(map(str, ct)) == ["{'test'}", "{'train'}", "{'val'}"]
    for entry in entries:
        if entry["split"] in ("train", "val"):
            assert entry["seen"]
        elif entry["split"] == "held_out":
            assert not entry["seen"]
            assert splits[entry["patient"]] <= {"train", "val"}


def test_several_files_of_a_patient_stay_together(source, run):
    image, labels = volume()
    for n in range(2, 12):
        for part in ("a", "b", "c"):
            save(source / "imagesTr" / f"amos_{n:04d}_{part}.nii.gz", image)
            save(source / "labelsTr" / f"amos_{n:04d}_{part}.nii.gz", labels)
    entries, _ = run()
    kept = [e for e in entries if e["seen"]]
    recordings = {}
    for entry in kept:
        recordings.setdefault(entry["patient"], {})[entry["recording"]] = entry["split"]
    assert len(recordings["amos_0002"]) == 3
    assert all(len(set(r.values())) == 1 for r in recordings.values())
    assert {e["split"] for e in kept} == {"train", "val", "test"}


def test_letter_case_and_packing(source, run):
    (source / "imagesTr").rename(source / "ImagesTR")
    (source / "labelsTr").rename(source / "labelstr")
    (source / "dataset.json").rename(source / "Dataset.JSON")
    old = source / "ImagesTR" / "amos_0001.nii.gz"
    (source / "ImagesTR" / "AMOS_0001.nii").write_bytes(gzip.decompress(old.read_bytes()))
    old.unlink()
    # unpacked on download, but still called .gz
    wrong = source / "labelstr" / "amos_0004.nii.gz"
    wrong.write_bytes(gzip.decompress(wrong.read_bytes()))
    # packed, but not called so; with the channel of nnU-Net
    packed = source / "ImagesTR" / "amos_0004.nii.gz"
    packed.rename(source / "ImagesTR" / "amos_0004_0000.nii")
    entries, warnings = run()
    assert warnings == []
    assert len(entries) == 5 * 7


def test_archivers_leave_files_that_are_none(source, run):
    (source / "imagesTr" / "._amos_0001.nii.gz").write_bytes(b"\0\5\x16\7")
    junk = source / "__MACOSX" / "imagesTr"
    junk.mkdir(parents=True)
    (junk / "amos_0009.nii.gz").write_bytes(b"")
    entries, warnings = run()
    assert (len(entries), warnings) == (35, [])


def damage(path):
    path.write_bytes(path.read_bytes()[:200])


MISTAKES = {
    "label file missing": (lambda f: (f / "labelsTr/amos_0001.nii.gz").unlink(), "no labels"),
    "image missing": (lambda f: (f / "imagesTr/amos_0001.nii.gz").unlink(), "volume is missing"),
    "image cut short": (lambda f: damage(f / "imagesTr/amos_0001.nii.gz"), "damaged"),
    "labels cut short": (lambda f: damage(f / "labelsTr/amos_0001.nii.gz"), "damaged"),
    "another shape": (
        lambda f: save(f / "labelsTr/amos_0001.nii.gz", np.ones((3, 4, 5), np.uint8)),
        r"shape \(20, 18, 7\), but its labels \(3, 4, 5\)",
    ),
    "one slice": (
        lambda f: [
            save(f / f"{part}/amos_0001.nii.gz", np.ones((20, 18), np.uint8))
            for part in ("imagesTr", "labelsTr")
        ],
        r"no volume: its shape is \(20, 18\)",
    ),
    "probabilities": (
        lambda f: save(f / "labelsTr/amos_0001.nii.gz", np.full(SHAPE, 0.5, np.float32)),
        "no whole numbers",
    ),
    "empty": (
        lambda f: save(f / "labelsTr/amos_0001.nii.gz", np.zeros(SHAPE, np.uint8)),
        "no object",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_and_the_rest_goes_on(source, run, mistake):
    make, message = MISTAKES[mistake]
    make(source)
    entries, warnings = run()
    assert len(warnings) == 1
    assert "amos_0001" in warnings[0]
    assert "\n" not in warnings[0]
    assert re.search(message, warnings[0])
    assert len(entries) == 4 * 7


def test_unknown_label_values(source, run, tmp_path):
    _, labels = volume(1)
    wrong = labels.astype(np.int16)
    wrong[0, 0, :] = 77
    wrong[0, 1, :] = -3
    save(source / "labelsTr" / "amos_0001.nii.gz", wrong)
    entries, warnings = run()
    assert warnings == ["amos_0001: unknown label values -3, 77, taken as background."]
    assert len(entries) == 35
    arrays = load(tmp_path, by_name(entries)["ct/amos_0001_spleen"])
    np.testing.assert_array_equal(arrays["labels"], (wrong == 1).transpose(2, 1, 0)[1:4])


def test_labels_saved_as_floats(source, run):
    _, labels = volume(1)
    save(source / "labelsTr" / "amos_0001.nii.gz", labels.astype(np.float64))
    entries, warnings = run()
    assert (len(entries), warnings) == (35, [])


@pytest.mark.parametrize("content", [None, "{", '{"labels": {"0": "background", "1": "spleen"}}'])
def test_without_a_usable_dataset_json(source, run, content):
    path = source / "dataset.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    entries, warnings = run()
    assert len(warnings) == 1
    assert "dataset.json" in warnings[0]
    assert len(entries) == 35


def test_renumbered_labels_are_found_by_name(source, run, tmp_path):
    """In the newer form of the file, name first; 1 is now the aorta and 8 the spleen."""
    names = list(ORGANS)
    names[1], names[8] = "aorta", "spleen"
    describe(source, {name: k for k, name in enumerate(names)})
    entries, warnings = run()
    assert warnings == []
    entry = by_name(entries)["ct/amos_0001_spleen"]
    assert entry["label"] == 8
    _, labels = volume(1)
    np.testing.assert_array_equal(load(tmp_path, entry)["labels"].any(0), (labels == 8).any(2).T)


def test_slices_are_axial_however_the_file_lies(source, run, tmp_path):
    """A volume stored with the head-foot axis first, one axis mirrored."""
    image, labels = volume(1)
    turned = np.array([[0, -0.8, 0, 0], [0, 0, 0.9, 0], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    for half, data in (("images", image), ("labels", labels)):
        save(source / f"{half}Tr" / "amos_0001.nii.gz", data.transpose(2, 0, 1), turned)
    entries, _ = run()
    entry = by_name(entries)["ct/amos_0001_left_kidney"]
    np.testing.assert_allclose(entry["spacing"], (5, 0.9, 0.8), rtol=1e-5)
    np.testing.assert_array_equal(
        load(tmp_path, entry)["labels"], (labels == 3).transpose(2, 1, 0)[1:6]
    )


def test_challenge_test_volumes_have_no_labels(source, run):
    for number in (20, 21):
        save(source / "imagesTs" / f"amos_{number:04d}.nii.gz", volume()[0])
    entries, warnings = run()
    assert warnings == ["imagesTs: 2 volumes have no public labels and are left out."]
    assert len(entries) == 35


@pytest.mark.parametrize("what", ["nothing there", "another data set", "images only"])
def test_nothing_to_read(tmp_path, what):
    folder = tmp_path / "data"
    if what != "nothing there":
        save(folder / "imagesTr" / ("amos_0001.nii.gz" if what == "images only" else "x.nii.gz"),
             volume()[0])  # fmt: skip
    with pytest.raises(FileError, match=r"no folder|holds no AMOS22"):
        prepare("amos22", folder, tmp_path / "out", warn=lambda _: None)
    assert not (tmp_path / "out").exists()
