"""Frame names: which slices of two folders of images belong together, as far as names say it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from imos_core.formats.volume import Volume


def on_frames(image: Volume, labels: Volume) -> Volume:
    """Put labels of some frames where these are; other labels stay as they are.

    Parameters
    ----------
    image, labels : Volume
        As read.

    Returns
    -------
    Volume
        Of two folders of images, if each label file is named like one of the frames, labels of
        every frame; those without a file are empty.
    """
    frames, names = _names(image), _names(labels)
    if len(set(frames)) < len(frames) or not 0 < len(names) < len(frames):
        return labels
    if not set(names) <= set(frames):
        return labels
    places = {name: k for k, name in enumerate(frames)}
    array = labels.array.spread([places[name] for name in names], len(frames))
    return replace(labels, array=array, extra={**labels.extra, "names": frames})


def check_numbers(first_file: Path, first: Volume, second_file: Path, second: Volume) -> None:
    """Refuse two folders as long as each other whose names count frames differently.

    Where numbers begin and how far apart all are says nothing; that one leaves some out which the
    other has does. Programs may number the files of any frames from 0 or 1, under names of their
    own.

    Parameters
    ----------
    first_file, second_file : Path
        Names, for the message.
    first, second : Volume
        As read.

    Raises
    ------
    FileError
        If numbers contradict each other.
    """
    one, other = _names(first), _names(second)
    if (k := _contradiction(one, other)) is not None:
        raise FileError(
            f"Slices {k - 1} and {k} are {one[k - 1]} and {one[k]} in {first_file}, but "
            f"{other[k - 1]} and {other[k]} in {second_file}: give files that belong together the "
            "same numbers."
        )


def _names(volume: Volume) -> tuple[str, ...]:
    return tuple(volume.extra["names"]) if volume.format == "images" else ()


def _contradiction(one: Sequence[str], other: Sequence[str]) -> int | None:
    """First slice that is not as far from the one before as in the other folder."""
    if len(one) != len(other):
        return None
    mine, theirs = _numbers(one), _numbers(other)
    if mine is None or theirs is None:
        return None
    (form, a), (other_form, b) = mine, theirs
    if form != other_form and (_only_count(a) or _only_count(b)):
        return None
    steps = zip(_steps(a), _steps(b), strict=True)
    return next((k for k, (x, y) in enumerate(steps, 1) if x != y), None)


def _numbers(names: Sequence[str]) -> tuple[str, list[int]] | None:
    """Numbers of files that differ by a number only, and what all have in common; else None."""
    parts = [re.split(r"(\d+)", name) for name in names]
    if len({len(part) for part in parts}) != 1:
        return None
    columns = list(zip(*parts, strict=True))
    varied = [c for c, column in enumerate(columns) if len(set(column)) > 1]
    if len(varied) != 1 or varied[0] % 2 == 0:
        return None
    (c,) = varied
    width = "0" * min(map(len, columns[c]))
    form = "".join(width if i == c else column[0] for i, column in enumerate(columns))
    return form, [int(number) for number in columns[c]]


def _only_count(numbers: Sequence[int]) -> bool:
    """Whether numbers are those that a program gives to files of any frames."""
    return numbers[0] in (0, 1) and list(numbers) == [numbers[0] + k for k in range(len(numbers))]


def _steps(numbers: Sequence[int]) -> list[int]:
    """From each number to the next, in steps that all have in common."""
    steps = [b - a for a, b in pairwise(numbers)]
    common = math.gcd(*steps) or 1
    return [step // common for step in steps]
