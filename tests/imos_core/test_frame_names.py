"""Names of frames: folders of which they say that slices do not belong together by place."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imos_core.arrays.on_grid import Grid
from imos_core.cli import main
from imos_core.errors import FileError, PromptError
from imos_core.files.propagate import FileJob, read_inputs
from imos_core.formats.frame_names import check_numbers
from imos_core.io import read_labels, read_volume, write_labels


def folder(path, names, planes=None):
    """Frames of these names; without pixels, each shows its place."""
    path.mkdir()
    for k, name in enumerate(names):
        plane = np.full((4, 5), k + 1, np.uint8) if planes is None else planes[k]
        Image.fromarray(plane).save(path / f"{name}.png")
    return path


def numbered(form, numbers):
    return [form.format(k) for k in numbers]


def without(*missing, stop=9):
    return [k for k in range(stop) if k not in missing]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (numbered("{:05}", without(3)), numbered("{:05}", without(6))),
        (numbered("{:05}", without(3)), numbered("{:05}", range(1, 9))),
        (numbered("img{}", without(3)), numbered("mask_{:03}", without(0, 3, 6, stop=11))),
        (numbered("{}", [0, 5, 10, 20]), numbered("{}", [0, 5, 15, 20])),
    ],
)
def test_numbers_that_contradict_each_other(tmp_path, images, labels):
    one, other = folder(tmp_path / "images", images), folder(tmp_path / "labels", labels)
    for first, second in ((one, other), (other, one)):
        with pytest.raises(FileError, match="give files that belong together the same numbers"):
            check_numbers(first, read_volume(first), second, read_labels(second))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (numbered("{:05}", without(3)), numbered("mask{:05}", without(3))),
        (numbered("{}", range(12)), numbered("{}", range(1, 13))),
        (numbered("{}", range(0, 50, 5)), numbered("{}", range(10))),
        (numbered("frame_{:04}", without(3)), numbered("slice_{:04}", range(8))),
        (numbered("a-1-{}", without(3)), ["a-1-1", "a-2-1", *numbered("a-2-{}", range(2, 8))]),
        (["one", "three", "two"], numbered("{}", [1, 2, 4])),
    ],
)
def test_numbers_that_do_not(tmp_path, images, labels):
    one, other = folder(tmp_path / "images", images), folder(tmp_path / "labels", labels)
    check_numbers(one, read_volume(one), other, read_labels(other))


def test_what_is_read_together_is_compared(tmp_path, capfd):
    image = folder(tmp_path / "images", numbered("{:05}", without(3)))
    labels = folder(tmp_path / "labels", numbered("{:05}", without(6)))
    said = (
        f"Slices 2 and 3 are 00002 and 00004 in {image}, but 00002 and 00003 in {labels}: give "
        "files that belong together the same numbers."
    )
    with pytest.raises(FileError) as error:
        read_inputs(FileJob(image=image, painted=labels, output=tmp_path / "out"))
    assert str(error.value) == said
    assert main(["evaluate", str(labels), str(image)]) == 2
    assert said in capfd.readouterr().err


def test_a_result_has_the_names_of_its_image(tmp_path):
    image = folder(tmp_path / "images", numbered("{:05}", without(3)))
    write_labels(tmp_path / "out", np.ones((8, 4, 5), np.uint8), read_volume(image))
    check_numbers(image, read_volume(image), tmp_path / "out", read_labels(tmp_path / "out"))


class TestLabelsOfSomeFrames:
    @pytest.fixture
    def image(self, tmp_path):
        return folder(tmp_path / "images", numbered("{:05}", without(3)))

    def read(self, image, labels, **options):
        job = FileJob(image=image, painted=labels, output=image.parent / "out", **options)
        return read_inputs(job)

    def test_they_are_put_on_the_frames_of_their_names(self, tmp_path, image):
        labels = folder(tmp_path / "labels", ["00002", "00006"])
        _, painted, prompts, _ = self.read(image, labels)
        assert {k: plane.max() for k, plane in prompts.items()} == {2: 1, 5: 2}
        assert painted.length == 8
        assert painted.planes(0, 8).max((1, 2)).tolist() == [0, 0, 1, 0, 0, 2, 0, 0]

    def test_one_alone_needs_no_anchor(self, tmp_path, image):
        labels = folder(tmp_path / "labels", ["00006"])
        assert list(self.read(image, labels)[2]) == [5]
        assert list(self.read(image, labels, anchors=3)[2]) == [3], "as a person says"

    def test_other_names_say_nothing(self, tmp_path, image):
        labels = folder(tmp_path / "labels", ["00002", "mask6"])
        with pytest.raises(PromptError, match=r"The labels have shape \(2, 4, 5\)"):
            self.read(image, labels)


def test_sessions_know_by_place_which_slices_belong_together(tmp_path):
    """Saved labels of a part of a volume may be named as other frames are."""
    names = numbered("slice_{:04}", range(8))
    planes = np.zeros((3, 4, 5), np.uint8)
    planes[1] = 1
    image, labels = (
        folder(tmp_path / "images", names),
        folder(tmp_path / "labels", names[:3], planes),
    )
    job = FileJob(
        image=image,
        painted=labels,
        output=tmp_path / "out",
        anchors=[1],
        session=True,
        grid=Grid((5.0, 0.0, 0.0), (1.0, 1.0, 1.0), (8, 4, 5), 0.0),
    )
    seen, painted, *_ = read_inputs(job)
    assert painted.length == 3
    assert [np.asarray(seen.array[k])[0, 0] for k in range(3)] == [6, 7, 8]
