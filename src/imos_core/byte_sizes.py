"""Amounts of memory as people write them."""

from __future__ import annotations

import re

from imos_core.errors import PromptError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_size(text: str | float) -> int:
    """Bytes of ``"4GB"``, ``"500 MB"``, ``"2GiB"`` or a number.

    Raises
    ------
    PromptError
        If it is none of them.
    """
    said = f"{text:f}" if isinstance(text, float) else str(text)  # never 4e+16
    found = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]i?|)b?\s*", said.lower())
    try:
        value = float(found.group(1)) if found else 0.0
    except ValueError:
        value = 0.0
    if not found or value <= 0:
        raise PromptError(f"{text!r} is no amount of memory: give one such as 4GB or 500MB.")
    unit = found.group(2)
    return int(value * (_BINARY.get(unit) or _UNITS[unit]))
