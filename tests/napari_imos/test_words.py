"""Numbers and times as people write them."""

from __future__ import annotations

import pytest

from napari_imos import _words as words


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""),
        ([4], "4"),
        ([1, 2, 3, 7], "1-3, 7"),
        ([1, 3, 5, 7, 9, 10], "1, 3, 5, 7 and 2 more"),
    ],
)
def test_numbers(values, text):
    assert words.numbers(values) == text


@pytest.mark.parametrize(
    ("duration", "text"), [(0, "0.0 s"), (4.21, "4.2 s"), (41.4, "41 s"), (185, "3 min 5 s")]
)
def test_seconds(duration, text):
    assert words.seconds(duration) == text


def test_places():
    assert words.place("t", 4) == "t 4"
    assert words.place("axis 0", "2-3") == "2-3 on axis 0"


def test_prompt():
    assert words.prompt(17, [], [1, 2, 3]) == "Prompt: slice 17, labels 1-3"
    assert words.prompt(17, [40, 4], [2]) == "Prompt: slice 17 (with 4, 40), label 2"
    assert words.prompt(17, [], []) == "Nothing is painted on slice 17."


def test_counted():
    assert words.counted(1, "slice") == "1 slice"
    assert words.counted(0, "slice") == "0 slices"
