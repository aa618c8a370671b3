"""Samples: complete, small, and worth painting."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from imos_core.errors import FileError
from imos_core.samples import load_sample, sample_names


@pytest.mark.parametrize("name", sample_names())
def test_every_object_is_in_the_prompt_slice_and_beyond(name: str) -> None:
    sample = load_sample(name)

    assert sample.name == name
    assert sample.image.dtype == np.uint8
    assert sample.labels.dtype == np.uint16
    assert sample.image.shape == sample.labels.shape
    assert all(step > 0 for step in sample.spacing)
    painted = np.setdiff1d(sample.labels[sample.prompt_slice], 0)
    np.testing.assert_array_equal(painted, np.arange(1, sample.labels.max() + 1))
    for label in painted:
        assert (sample.labels == label).any((1, 2)).sum() >= 3


def test_the_default_is_the_real_volume_with_four_structures() -> None:
    sample = load_sample()

    assert sample.name == sample_names()[0] == "brain"
    assert sample.labels.max() == 4
    left, right = sample.labels == 1, sample.labels == 2
    # the template is symmetric: the ventricles mirror each other in the middle column
    np.testing.assert_array_equal(left, right[:, :, ::-1])


def test_some_objects_end_within_the_default_sample() -> None:
    labels = load_sample().labels

    assert not labels[0].any()
    assert not labels[-1].any()


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(FileError, match="choose one of brain"):
        load_sample("heart")


def test_the_embedded_files_are_small_and_carry_their_notice() -> None:
    folder = files("imos_core").joinpath("_samples")
    sizes = {file.name: len(file.read_bytes()) for file in folder.iterdir() if file.is_file()}

    assert sum(sizes.values()) < 3_000_000
    notice = folder.joinpath("LICENSE-MNI152.txt").read_text(encoding="utf-8")
    assert "provided that the above copyright" in notice
