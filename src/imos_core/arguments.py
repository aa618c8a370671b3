"""Arguments of the command line: text in, numbers and lists out, or one line that says why not."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any

from imos_core.errors import FileError
from imos_core.paths import check_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BASELINES = ("copy", "flow", "interpolate", "randomwalk", "register")
"""Methods to compare models with."""


def joined(arguments: Sequence[str]) -> list[str]:
    """Join ``--contrast -160,240`` with "=", or argparse would take -160,240 for an option."""
    joined: list[str] = []
    for word in arguments:
        if joined and re.fullmatch(r"--[a-z]+", joined[-1]) and re.match(r"-\.?\d.*,", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def path(text: str) -> Path:
    """Read the name of a file or folder."""
    try:
        return check_path(text)
    except FileError as error:
        raise argparse.ArgumentTypeError(str(error).removesuffix(".")) from None


def integers(text: str) -> list[int]:
    """Read ``12,40``, or ``12 40`` as cells of a table may have it."""
    try:
        values = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers such as 12,40")
    return values


def ends(text: str) -> dict[int, list[int]]:
    """Read ``3:45,3:12``: label -> slices before which it has ended."""
    found: dict[int, list[int]] = {}
    for part in text.replace(",", " ").split():
        label, colon, index = part.partition(":")
        if not (colon and label.isdecimal() and index.isdecimal() and int(label)):
            raise argparse.ArgumentTypeError(
                f"{text!r} is no list of labels, each with a slice, such as 3:45,3:12"
            )
        found.setdefault(int(label), []).append(int(index))
    return found


def truth(text: str) -> bool:
    """Read ``yes`` or ``no``, as cells of a table say it."""
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
    return known[text.lower()]


def count(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def positive(text: str) -> float:
    """Read a number above 0."""
    (value,) = numbers(text, 1, "2.5")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return float(value)


def from_zero(text: str) -> int:
    """Read a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def seed(text: str) -> int:
    """Read what random generators take."""
    value = from_zero(text)
    if value >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is too large: give less than 2^63")
    return value


def baselines(text: str) -> list[str]:
    """Read names of baselines, or none."""
    names = [] if text == "none" else text.split(",")
    if unknown := set(names) - set(BASELINES):
        raise argparse.ArgumentTypeError(
            f"there is no baseline {min(unknown)!r}: give some of {','.join(BASELINES)}, or none"
        )
    return names


def numbers(text: str, count: int, example: str) -> Any:
    """Read so many numbers."""
    try:
        values = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        values = ()
    if len(values) != count:
        plural = "" if count == 1 else "s"
        raise argparse.ArgumentTypeError(
            f"{text!r} is not {count} number{plural} such as {example}"
        )
    return values


def pair(text: str) -> tuple[float, float]:
    """Read two numbers."""
    pair: tuple[float, float] = numbers(text, 2, "-160,240")
    return pair


def spacing(text: str) -> tuple[float, float, float]:
    """Read three positive numbers."""
    spacing: tuple[float, float, float] = numbers(text, 3, "2.5,0.8,0.8")
    if not all(0 < s < float("inf") for s in spacing):
        raise argparse.ArgumentTypeError("sizes of a voxel are positive")
    return spacing
