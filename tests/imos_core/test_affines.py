"""Affines: labels that lie elsewhere than their image are refused, and nothing else is."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from imos_core.errors import FileError
from imos_core.formats.affines import check_affines
from imos_core.io import read_labels, read_volume, write_labels

AFFINE = np.array([[-0.8, 0.1, 0, 90], [0.1, 0.8, 0.2, -120], [0, -0.1, 2.5, 40], [0, 0, 0, 1]])
SHAPE = (30, 20, 10)  # x, y, z


def save(path, shape=SHAPE, affine=AFFINE, sform=1, qform=0, unit="mm"):
    image = nibabel.Nifti1Image(np.ones(shape, np.uint8), None)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)


@pytest.fixture
def check(tmp_path):
    """Check labels of some affine against an image."""
    image, labels = tmp_path / "image.nii", tmp_path / "labels.nii.gz"

    def run(ours, theirs, time=None, **more):
        save(image, **ours)
        save(labels, **theirs)
        check_affines(image, read_volume(image, time=time), labels, read_labels(labels), **more)

    return run


def flipped(affine=AFFINE, axis=0):
    mirror = np.eye(4)
    mirror[axis, axis], mirror[axis, 3] = -1, SHAPE[axis] - 1
    return affine @ mirror


def moved(*voxels):
    shift = np.eye(4)
    shift[:3, 3] = voxels
    return AFFINE @ shift


@pytest.mark.parametrize(
    "theirs",
    [
        {"affine": flipped()},
        {"affine": flipped(axis=2)},
        {"affine": np.eye(4)},
        {"affine": moved(0, 0, 1)},
        {"affine": moved(0.5, 0, 0)},
        {"affine": AFFINE @ np.diag([1.02, 1, 1, 1])},
        {"affine": AFFINE, "unit": "micron"},
    ],
)
def test_elsewhere(check, theirs):
    with pytest.raises(FileError, match=r"labels\.nii\.gz does not lie where .*image\.nii lies"):
        check({}, theirs)


@pytest.mark.parametrize(
    "theirs",
    [
        {},
        {"affine": AFFINE.astype(np.float32)},
        {"affine": moved(0.01, 0, 0)},
        {"sform": 0, "qform": 0},
        {"affine": np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, "unit": "meter"},
        {"shape": SHAPE[:2], "affine": moved(0, 0, 7)},
        {"shape": (*SHAPE[:2], 1)},
    ],
)
def test_same_place(check, theirs):
    check({}, theirs)


def test_one_slice_that_is_flipped(check):
    with pytest.raises(FileError):
        check({}, {"shape": (*SHAPE[:2], 1), "affine": flipped()})
    check({}, {"shape": (SHAPE[0], SHAPE[2], 1), "affine": flipped()}, axis=1)


@pytest.mark.parametrize("shape", [SHAPE[:2], (*SHAPE[:2], 1)])
def test_one_slice_that_lies_at_another_than_is_named(check, shape):
    theirs = {"shape": shape, "affine": moved(0, 0, 7)}
    check({}, theirs, anchors=[7])
    with pytest.raises(FileError, match=r"lies at slice 7 of .* not at slice 6: .*--anchors 7"):
        check({}, theirs, anchors=[6])
    with pytest.raises(FileError, match=r"at slice 17 of .* not at slice 7: save it with"):
        check({}, theirs | {"affine": moved(0, 0, 17)}, anchors=[7])
    # who says nothing of its place is believed, as is who copies that of the volume
    check({}, {"shape": shape}, anchors=[6])
    check({}, theirs | {"sform": 0}, anchors=[6])
    # whole volumes and films have all slices
    check({}, {}, anchors=[6])
    check({"shape": (*SHAPE[:2], 1, 10)}, {}, anchors=[6], axis=1)


def test_an_image_without_a_place(check):
    check({"sform": 0}, {"affine": flipped()})


def test_a_program_may_go_by_the_qform(tmp_path):
    # scanners' sform and qform may differ, and readers differ in which one they take
    turned = np.diag([1, 2, 3, 1.0])
    image = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
    image.set_qform(turned, 1)
    nibabel.save(image, tmp_path / "image.nii")
    volume = read_volume(tmp_path / "image.nii")
    for affine in (AFFINE, turned):
        save(tmp_path / "labels.nii", affine=affine)
        check_affines(tmp_path, volume, tmp_path, read_labels(tmp_path / "labels.nii"))
    save(tmp_path / "labels.nii", affine=flipped())
    with pytest.raises(FileError):
        check_affines(tmp_path, volume, tmp_path, read_labels(tmp_path / "labels.nii"))


@pytest.mark.parametrize("four", [(*SHAPE, 1), (*SHAPE, 4)])
def test_labels_of_a_time_point(check, four):
    time = 2 if four[3] > 1 else None
    check({"shape": four}, {}, time=time)
    with pytest.raises(FileError):
        check({"shape": four}, {"affine": flipped()}, time=time)


def test_frames_of_a_video_have_no_place_along_time(check):
    video, frames = (*SHAPE[:2], 1, 10), SHAPE
    check({"shape": video}, {"shape": frames, "affine": AFFINE @ np.diag([1, 1, 9, 1])})
    with pytest.raises(FileError):
        check({"shape": video}, {"shape": frames, "affine": flipped()})


def test_earlier_results_with_a_given_spacing(check):
    wider = AFFINE @ np.diag([1, 1, 2, 1])
    theirs = {"affine": wider}
    spacing = np.sqrt((wider[:3, :3] ** 2).sum(0))[::-1].tolist()
    check({}, theirs, spacing=spacing)
    with pytest.raises(FileError):
        check({}, theirs)


def test_other_formats_say_nothing(tmp_path):
    save(tmp_path / "image.nii")
    write_labels(tmp_path / "labels.tif", np.ones(SHAPE[::-1], np.uint8))
    image, labels = read_volume(tmp_path / "image.nii"), read_labels(tmp_path / "labels.tif")
    check_affines(tmp_path, image, tmp_path, labels)
    # what is written without a place to copy must not claim one either
    write_labels(tmp_path / "labels.nii", np.ones(SHAPE[::-1], np.uint8))
    check_affines(tmp_path, image, tmp_path, read_labels(tmp_path / "labels.nii"))
