"""Columns that a list of jobs may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imos_core.arguments import ends, integers, pair, spacing, truth

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDED = ("image", "labels", "output")
"""Columns that every list has."""
COLUMNS: dict[str, tuple[str | None, Callable[[str], Any]]] = {
    "image": ("image", str),
    "labels": ("painted", str),
    "output": ("output", str),
    "confidence": ("confidence", str),
    "level": ("level", int),
    "time": ("time", int),
    "series": (None, truth),
    "channels": ("channels", integers),
    "axis": ("axis", int),
    "anchors": ("anchors", integers),
    "ids": ("labels", integers),
    "start": ("start", int),
    "stop": ("stop", int),
    "ended": ("absent", ends),
    "fill_anchors": ("fill_anchors", truth),
    "stop_when_gone": ("stop_when_gone", truth),
    "spacing": ("spacing", spacing),
    "direction": (None, str),
    "model": (None, str),
    "adapter": (None, str),
    "precision": (None, str),
    "window": (None, str),
    "contrast": (None, pair),
    "batch": (None, int),
    "memory": (None, str),
}
"""Column -> field of `FileJob`, or None for an option of `propagate`; and how it is read."""
MEANT: dict[Callable[[str], Any], str] = {
    int: "a whole number",
    integers: "whole numbers",
    spacing: "three positive numbers",
    pair: "two numbers",
    ends: "labels, each with a slice, such as 3:45",
    truth: "yes or no",
}
"""What a column holds, by how it is read."""
