"""Sequences in .npz files: what they may hold, in training and in evaluation alike."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import disc_volume

from imos_core.data.sources import SequenceSource
from imos_core.errors import FileError
from imos_core.evaluation.protocols import read_sequences

IMAGE, LABELS = disc_volume(8)


@pytest.fixture
def write(tmp_path):
    def write(**arrays):
        (tmp_path / "toy").mkdir(exist_ok=True)
        whole = {"image": IMAGE, "labels": LABELS, "spacing": np.ones(3), **arrays}
        np.savez(tmp_path / "toy/a.npz", **{k: v for k, v in whole.items() if v is not None})
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"labels": LABELS[1:]}, r"its labels are \(7, 48, 48\), but its image \(8, 48, 48\)"),
        ({"labels": LABELS[0], "image": IMAGE[0]}, "both must show the same slices"),
        ({"labels": LABELS[:0], "image": IMAGE[:0]}, "which is nothing"),
        ({"labels": LABELS * 0.5}, "its labels hold fractions"),
        ({"labels": np.where(LABELS, np.inf, 0)}, "its labels hold fractions or no numbers"),
        ({"labels": LABELS.astype(str)}, "its labels hold <U"),
        ({"image": IMAGE.astype(complex)}, "its image holds complex128"),
        ({"image": np.repeat(IMAGE[..., None], 5, -1)}, "must hold 1 to 4 channels"),
        ({"spacing": np.zeros(3)}, r"its spacing is \[0.0, 0.0, 0.0\]: it must be three sizes"),
        ({"spacing": np.array([1, np.nan, 1])}, "its spacing is"),
        ({"spacing": np.array(2.0)}, r"its spacing is 2\.0"),
        ({"labels": None}, "labels is not a file"),
    ],
)
def test_what_cannot_be_a_sequence_is_refused(write, arrays, said):
    folder = write(**arrays)
    for read in (SequenceSource, lambda f: list(read_sequences(f))):
        with pytest.raises(FileError, match=rf"a\.npz is no readable sequence: .*{said}"):
            read(folder)


@pytest.mark.parametrize(
    "given",
    [LABELS.astype(np.int16) - 1 + LABELS, LABELS.astype(np.float32), LABELS > 0],
    ids=["negative", "floats", "booleans"],
)
def test_labels_are_whole_numbers_from_0_on(write, given):
    folder = write(labels=given)
    (sequence,) = read_sequences(folder)
    drawn = SequenceSource(folder).draw(np.random.default_rng(0))
    for labels in (sequence.labels, drawn.labels):
        np.testing.assert_array_equal(labels, LABELS)


def test_far_off_ids_keep_their_number_where_they_are_scored(write):
    folder = write(labels=LABELS.astype(np.uint32) * 3_000_000_000)
    assert next(read_sequences(folder)).labels.max() == 3_000_000_000
    drawn = SequenceSource(folder).draw(np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.labels, LABELS)
    assert list(drawn.extents) == [1]


@pytest.mark.parametrize("factor", [np.uint16(200), np.float32(1 / 255)])
def test_images_that_are_not_in_bytes_are_stretched_to_them(write, factor):
    image = SequenceSource(write(image=IMAGE * factor)).draw(np.random.default_rng(0)).image
    assert image.dtype == np.uint8
    assert np.corrcoef(image.ravel(), IMAGE.ravel())[0, 1] > 0.99
    assert np.ptp(image) == 255


@pytest.mark.parametrize(("channels", "shape"), [(1, ()), (2, ()), (3, (3,)), (4, (3,))])
def test_channels_are_those_of_inference(write, channels, shape):
    folder = write(image=np.stack([IMAGE, *[IMAGE // 2] * (channels - 1)], -1))
    image = SequenceSource(folder).draw(np.random.default_rng(0)).image
    assert image.shape == (*IMAGE.shape, *shape)
    np.testing.assert_array_equal(image[..., 0] if shape else image, IMAGE)


def test_a_spacing_may_be_unknown(write):
    folder = write(spacing=None)
    assert next(read_sequences(folder)).spacing == (1, 1, 1)
    assert not SequenceSource(folder).draw(np.random.default_rng(0)).isotropic


def test_sequences_without_any_object_are_refused(write):
    with pytest.raises(FileError, match=r"No sequence in .* has a label above 0"):
        SequenceSource(write(labels=LABELS * 0))
