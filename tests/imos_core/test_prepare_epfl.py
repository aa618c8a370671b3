"""The EPFL reader, on a copy in the native layout with the mistakes that copies have."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from imos_core.errors import FileError
from imos_core.prepare.run import prepare

SHAPE = (9, 24, 32)


def volume(seed=0):
    """Image and truth: three mitochondria, one of which bends over a corner of its voxels."""
    image = np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:6, 2:8, 2:8] = 255
    truth[3:9, 14:20, 4:9] = 255
    truth[0:2, 10:14, 20:24] = 255
    truth[2:5, 14:18, 24:28] = 255  # touches the one above in a corner only
    return image, truth


def save(folder, name, data, **options):
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / name, data, photometric="minisblack", **options)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "epfl"
    for name in ("training", "testing"):
        image, truth = volume()
        save(folder, f"{name}.tif", image)
        save(folder, f"{name}_groundtruth.tif", truth)
    return folder


def run(source, tmp_path, size=0):
    warnings = []
    entries = prepare("epfl", source, tmp_path / "out", size=size, warn=warnings.append)
    return entries, warnings


def load(tmp_path, entry):
    with np.load(tmp_path / "out" / entry["file"]) as file:
        return {key: file[key] for key in file.files}


def test_every_mitochondrion_is_a_sequence(source, tmp_path):
    entries, warnings = run(source, tmp_path)
    assert warnings == []
    assert sorted(e["name"] for e in entries) == [
        "em/testing_001", "em/testing_002", "em/testing_003",
        "em/training_001", "em/training_002", "em/training_003",
    ]  # fmt: skip
    assert {(e["patient"], e["split"]) for e in entries} == {
        ("training", "train"),
        ("testing", "test"),
    }
    image, truth = volume()
    union = np.zeros(SHAPE, int)
    for entry in entries[:3]:
        arrays = load(tmp_path, entry)
        part = slice(entry["first"], entry["last"] + 1)
        np.testing.assert_array_equal(arrays["image"], image[part])
        union[part] += arrays["labels"]
        np.testing.assert_allclose(arrays["spacing"], 5)
    np.testing.assert_array_equal(union, truth > 0)
    spans = {(e["first"], e["last"]) for e in entries[:3]}
    assert spans == {(0, 4), (1, 5), (3, 8)}
    assert {e["category"] for e in entries} == {"mitochondria"}


def test_size(source, tmp_path):
    entries, _ = run(source, tmp_path, size=48)
    arrays = load(tmp_path, entries[0])
    assert arrays["image"].shape[1:] == (48, 48)
    np.testing.assert_allclose(arrays["spacing"], (5, 2.5, 5 * 32 / 48), rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{"compression": "zlib"}, {"imagej": True}, {"metadata": None}, {"bigtiff": True}]
)
def test_flavours_of_tiff(source, tmp_path, options):
    before, _ = run(source, tmp_path)
    image, truth = volume()
    save(source, "training.tif", image, **options)
    save(source, "training_groundtruth.tif", truth, **options)
    after, warnings = run(source, tmp_path)
    assert (after, warnings) == (before, [])


def test_pages_written_one_by_one(source, tmp_path):
    before, _ = run(source, tmp_path)
    with tifffile.TiffWriter(source / "training.tif") as writer:
        for k, plane in enumerate(volume()[0]):
            writer.write(plane, description=f"page {k}", photometric="minisblack")
    after, warnings = run(source, tmp_path)
    assert (after, warnings) == (before, [])


def test_letter_case_and_suffix(source, tmp_path):
    (source / "training.tif").rename(source / "Training.TIFF")
    (source / "training_groundtruth.tif").rename(source / "TRAINING_GroundTruth.Tif")
    entries, warnings = run(source, tmp_path)
    assert (len(entries), warnings) == (6, [])


@pytest.mark.parametrize("inside", [1, True])
def test_truth_of_ones(source, tmp_path, inside):
    truth = (volume()[1] > 0).astype(bool if inside is True else np.uint8)
    save(source, "training_groundtruth.tif", truth)
    entries, warnings = run(source, tmp_path)
    assert (len(entries), warnings) == (6, [])


def test_unknown_values(source, tmp_path):
    _, truth = volume()
    truth[7, 0, :4] = 128
    save(source, "training_groundtruth.tif", truth)
    entries, warnings = run(source, tmp_path)
    assert warnings == ["training: unknown label value 128, taken as background."]
    assert len(entries) == 6


def test_what_is_in_one_slice_only_is_no_sequence(source, tmp_path):
    _, truth = volume()
    truth[7, 0, :4] = 255
    save(source, "training_groundtruth.tif", truth)
    entries, _ = run(source, tmp_path)
    assert len(entries) == 6


MISTAKES = {
    "no truth": (lambda s: (s / "testing_groundtruth.tif").unlink(), "testing_groundtruth.tif is"),
    "no image": (lambda s: (s / "testing.tif").unlink(), "testing.tif is missing"),
    "cut short": (
        lambda s: (s / "testing.tif").write_bytes((s / "testing.tif").read_bytes()[:3000]),
        "damaged",
    ),
    "no tiff": (lambda s: (s / "testing.tif").write_text("<html>"), "damaged"),
    "slices missing": (lambda s: save(s, "testing.tif", volume()[0][:-1]), "copy both again"),
    "probabilities": (
        lambda s: save(s, "testing_groundtruth.tif", volume()[1] / np.float32(255)),
        "whole numbers",
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_and_the_rest_goes_on(source, tmp_path, mistake):
    make, message = MISTAKES[mistake]
    make(source)
    entries, warnings = run(source, tmp_path)
    assert len(warnings) == 1
    assert message in warnings[0]
    assert "\n" not in warnings[0]
    assert {e["recording"] for e in entries} == {"training"}


def test_nothing_to_read(source, tmp_path):
    for path in source.glob("*_groundtruth.tif"):
        path.unlink()
    with pytest.raises(FileError, match="holds no EPFL volumes"):
        run(source, tmp_path)
    assert not (tmp_path / "out").exists()
