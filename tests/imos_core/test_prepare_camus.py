"""The CAMUS reader, on copies in both native layouts with the mistakes that copies have."""

from __future__ import annotations

import zlib

import nibabel
import numpy as np
import pytest

from imos_core.errors import FileError
from imos_core.prepare.metaimage import read_metaimage
from imos_core.prepare.run import prepare

WIDTH, HEIGHT, FRAMES = 14, 18, 5
ZOOMS = (0.3, 0.15)


def video(seed=0):
    """Frames and labels, `(T, H, W)`: a chamber that shrinks inside its wall, an atrium below."""
    image = np.random.default_rng(seed).integers(0, 256, (FRAMES, HEIGHT, WIDTH), np.uint8)
    labels = np.zeros_like(image)
    labels[:, 2:10, 2:12] = 2
    for t in range(FRAMES):
        labels[t, 4 + t // 2 : 9, 4:10] = 1
    labels[1:, 12:16, 4:10] = 3
    return image, labels


def save_nifti(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(frames.transpose(2, 1, 0), np.diag([*ZOOMS, 1, 1])), path)


def save_meta(path, frames, *, compressed=False, big_endian=False, local=False, data_file=None):
    """As ITK writes it: the fastest axis first, values in a file of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"uint8": "MET_UCHAR", "int16": "MET_SHORT", "float32": "MET_FLOAT"}
    kind = kinds[frames.dtype.name]
    raw = frames.astype(frames.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
    raw = zlib.compress(raw) if compressed else raw
    name = path.stem + (".zraw" if compressed else ".raw")
    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = {big_endian}\n"
        f"CompressedData = {compressed}\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
        f"CenterOfRotation = 0 0 0\nElementSpacing = {ZOOMS[0]} {ZOOMS[1]} 1\n"
        f"DimSize = {' '.join(map(str, frames.shape[::-1]))}\nElementType = {kind}\n"
        f"ElementDataFile = {'LOCAL' if local else data_file or name}\n"
    )
    path.write_bytes(header.encode() + (raw if local else b""))
    if not local:
        (path.parent / name).write_bytes(raw)


@pytest.fixture
def source(tmp_path):
    """Two patients, both views each."""
    folder = tmp_path / "CAMUS_public" / "database_nifti"
    for patient in (1, 2):
        name = f"patient{patient:04d}"
        for view in ("2CH", "4CH"):
            image, labels = video(patient)
            save_nifti(folder / name / f"{name}_{view}_half_sequence.nii.gz", image)
            save_nifti(folder / name / f"{name}_{view}_half_sequence_gt.nii.gz", labels)
            for part, k in (("ED", 0), ("ES", FRAMES - 1)):
                save_nifti(folder / name / f"{name}_{view}_{part}.nii.gz", image[k : k + 1])
                save_nifti(folder / name / f"{name}_{view}_{part}_gt.nii.gz", labels[k : k + 1])
        (folder / name / "Info_2CH.cfg").write_text("ED: 1\nES: 5\n")
    return tmp_path / "CAMUS_public"


def run(source, tmp_path, size=0):
    warnings = []
    entries = prepare("camus", source, tmp_path / "out", size=size, warn=warnings.append)
    return entries, warnings


def arrays_of(tmp_path, entries, name):
    (entry,) = [e for e in entries if e["name"] == name]
    with np.load(tmp_path / "out" / entry["file"]) as file:
        return {key: file[key] for key in file.files}


def half(source, patient=1, view="2CH", gt=False):
    name = f"patient{patient:04d}"
    folder = source / "database_nifti" / name
    return folder / f"{name}_{view}_half_sequence{'_gt' * gt}.nii.gz"


def test_three_structures_of_both_views(source, tmp_path):
    entries, warnings = run(source, tmp_path)
    assert warnings == []
    assert len(entries) == 2 * 2 * 3
    assert {e["category"]: e["seen"] for e in entries} == {
        "left ventricle endocardium": False,
        "left ventricle epicardium": True,
        "left atrium": True,
    }
    assert {e["modality"] for e in entries} == {"us"}


def test_views_of_a_patient_are_in_one_split(source, tmp_path):
    entries, _ = run(source, tmp_path)
    splits = {}
    for entry in entries:
        if entry["seen"]:
            splits.setdefault(entry["patient"], set()).add(entry["split"])
    assert sorted(map(str, splits.values())) == ["{'test'}", "{'train'}"]


def test_frames_and_spacing(source, tmp_path):
    entries, _ = run(source, tmp_path)
    image, labels = video(1)
    arrays = arrays_of(tmp_path, entries, "us/patient0001_2ch_left_atrium")
    np.testing.assert_array_equal(arrays["image"], image[1:])
    np.testing.assert_array_equal(arrays["labels"], labels[1:] == 3)
    np.testing.assert_allclose(arrays["spacing"], (1, 0.15, 0.3), rtol=1e-5)


def test_size(source, tmp_path):
    entries, _ = run(source, tmp_path, size=36)
    arrays = arrays_of(tmp_path, entries, "us/patient0002_4ch_left_ventricle_epicardium")
    assert arrays["image"].shape == arrays["labels"].shape == (FRAMES, 36, 36)
    np.testing.assert_allclose(arrays["spacing"], (1, 0.15 * 18 / 36, 0.3 * 14 / 36), atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"compressed": True}, {"local": True}])
def test_the_older_layout_holds_the_same(source, tmp_path, options):
    entries, _ = run(source, tmp_path)
    new = arrays_of(tmp_path, entries, "us/patient0001_2ch_left_atrium")
    old = tmp_path / "training"
    image, labels = video(1)
    save_meta(old / "patient0001" / "patient0001_2CH_half_sequence.mhd", image, **options)
    save_meta(old / "patient0001" / "patient0001_2CH_half_sequence_gt.mhd", labels, **options)
    entries, warnings = run(old, tmp_path)
    assert warnings == []
    assert len(entries) == 3
    arrays = arrays_of(tmp_path, entries, "us/patient0001_2ch_left_atrium")
    for name in ("image", "labels", "spacing"):
        np.testing.assert_allclose(arrays[name], new[name], rtol=1e-5)


def test_the_first_release_labels_two_frames(tmp_path):
    """There ED and ES have labels, the sequence between them has none."""
    folder = tmp_path / "training" / "patient0003"
    image, labels = video()
    save_meta(folder / "patient0003_4CH_sequence.mhd", image)
    for part, k in (("ED", 0), ("ES", FRAMES - 1)):
        save_meta(folder / f"patient0003_4CH_{part}.mhd", image[k : k + 1])
        save_meta(folder / f"patient0003_4CH_{part}_gt.mhd", labels[k : k + 1])
    entries, warnings = run(tmp_path / "training", tmp_path)
    assert len(warnings) == 1
    assert "patient0003_4ch: only its first and last frame are labelled" in warnings[0]
    arrays = arrays_of(tmp_path, entries, "us/patient0003_4ch_left_ventricle_epicardium")
    np.testing.assert_array_equal(arrays["image"], image[[0, -1]])
    np.testing.assert_array_equal(arrays["labels"], labels[[0, -1]] == 2)
    # the atrium is in one of the two only
    assert len(entries) == 2


def test_letter_case_and_packing(source, tmp_path):
    folder = source / "database_nifti"
    (folder / "patient0001").rename(folder / "Patient0001")
    image, labels = video(1)
    for gt, frames in ((False, image), (True, labels)):
        old = folder / "Patient0001" / half(source, gt=gt).name
        old.unlink()
        save_nifti(old.with_name(f"PATIENT0001_2ch_Half_Sequence{'_GT' * gt}.nii"), frames)
    entries, warnings = run(source, tmp_path)
    assert warnings == []
    assert len(entries) == 12


def overwrite(path, frames):
    save_nifti(path, frames)


MISTAKES = {
    "no labels": (lambda s: half(s, gt=True).unlink(), 11, "only its first and last frame"),
    "no image": (lambda s: half(s).unlink(), 11, "only its first and last frame"),
    "cut short": (lambda s: half(s).write_bytes(half(s).read_bytes()[:90]), 9, "damaged"),
    "a frame missing": (lambda s: overwrite(half(s), video()[0][:-1]), 9, r"but its labels"),
    "unknown value": (
        lambda s: overwrite(half(s, gt=True), np.where(video()[1] == 0, 9, video()[1])),
        12,
        "unknown label value 9",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_and_the_rest_goes_on(source, tmp_path, mistake):
    make, count, message = MISTAKES[mistake]
    make(source)
    entries, warnings = run(source, tmp_path)
    assert len(warnings) == 1
    assert "patient0001_2ch" in warnings[0]
    assert message in warnings[0]
    assert len(entries) == count


@pytest.mark.parametrize(("lacking", "message"), [("", "images"), ("_gt", "labels")])
def test_a_view_without_its_other_half(source, tmp_path, lacking, message):
    folder = source / "database_nifti" / "patient0002"
    for path in folder.glob("*_4CH_*.nii.gz"):
        if path.name.endswith("_gt.nii.gz") == bool(lacking):
            path.unlink()
    entries, warnings = run(source, tmp_path)
    assert len(entries) == 9
    assert len(warnings) == 1
    assert "patient0002_4ch" in warnings[0]
    assert message in warnings[0]


def test_nothing_to_read(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="holds no CAMUS sequences"):
        run(tmp_path / "empty", tmp_path)


class TestMetaImage:
    """The reader of .mhd files by itself."""

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
    @pytest.mark.parametrize("big_endian", [False, True])
    def test_values(self, tmp_path, dtype, big_endian):
        frames = (np.arange(24).reshape(2, 3, 4) - 5).astype(dtype)
        save_meta(tmp_path / "a.mhd", frames, big_endian=big_endian)
        data, spacing = read_metaimage(tmp_path / "a.mhd")
        np.testing.assert_array_equal(data, frames.transpose(2, 1, 0))
        assert data.dtype == dtype
        assert spacing == (*ZOOMS, 1)

    def test_the_other_file_in_another_letter_case(self, tmp_path):
        frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        save_meta(tmp_path / "a.mhd", frames, data_file="C:\\data\\OLD.RAW")
        np.testing.assert_array_equal(read_metaimage(tmp_path / "a.mhd")[0].T, frames)

    def test_header_before_the_values(self, tmp_path):
        frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        for size, junk in ((7, 7), (-1, 11)):
            save_meta(tmp_path / "a.mhd", frames)
            text = (tmp_path / "a.mhd").read_text()
            (tmp_path / "a.mhd").write_text(f"HeaderSize = {size}\n{text}")
            (tmp_path / "a.raw").write_bytes(b"x" * junk + frames.tobytes())
            np.testing.assert_array_equal(read_metaimage(tmp_path / "a.mhd")[0].T, frames)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("DimSize = 4 3 2\n", "", "no complete MetaImage header"),
            ("MET_UCHAR", "MET_STRING", "no complete MetaImage header"),
            ("ElementDataFile = a.raw\n", "", "no complete MetaImage header"),
            ("DimSize = 4 3 2", "DimSize = 4 3 9", "cut short"),
            ("DimSize = 4 3 2", "DimSize = 4 3 2 1", "no grey image"),
            ("ElementDataFile = a", "ElementNumberOfChannels = 3\nElementDataFile = a", "no grey"),
            ("CompressedData = False", "CompressedData = True", "damaged"),
        ],
    )
    def test_damage(self, tmp_path, old, new, message):
        save_meta(tmp_path / "a.mhd", np.zeros((2, 3, 4), np.uint8))
        text = (tmp_path / "a.mhd").read_text()
        assert old in text
        (tmp_path / "a.mhd").write_text(text.replace(old, new))
        with pytest.raises(FileError, match=message):
            read_metaimage(tmp_path / "a.mhd")

    def test_values_missing(self, tmp_path):
        save_meta(tmp_path / "a.mhd", np.zeros((2, 3, 4), np.uint8))
        (tmp_path / "a.raw").unlink()
        with pytest.raises(FileError, match=r"a\.raw is missing"):
            read_metaimage(tmp_path / "a.mhd")
