"""Units of length and time: one table of how files call them, and what they are in each other."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    Spacing = tuple[float, float, float]


class _Unit(NamedTuple):
    size: Fraction
    """In metres or seconds; fractions, so that 1000 nm are 1 um and nothing else."""
    symbol: str
    """What OME calls it."""
    others: tuple[str, ...]
    """What else files call it."""


_PREFIXES = {
    "yotta": ("Y", 24), "zetta": ("Z", 21), "exa": ("E", 18), "peta": ("P", 15), "tera": ("T", 12),
    "giga": ("G", 9), "mega": ("M", 6), "kilo": ("k", 3), "hecto": ("h", 2), "deka": ("da", 1),
    "": ("", 0), "deci": ("d", -1), "centi": ("c", -2), "milli": ("m", -3),
    "micro": ("\u00b5", -6), "nano": ("n", -9), "pico": ("p", -12), "femto": ("f", -15),
    "atto": ("a", -18), "zepto": ("z", -21), "yocto": ("y", -24),
}  # fmt: skip


def _metric(
    base: str, symbol: str, more: tuple[str, ...], shorts: tuple[str, ...] = ()
) -> dict[str, _Unit]:
    """All multiples of metres or seconds; `more` and `shorts` are spelt otherwise."""
    found = {}
    for prefix, (sign, power) in _PREFIXES.items():
        others = tuple(prefix + name for name in more)
        others += tuple(sign + short for short in shorts)
        if prefix == "micro":
            # beside the micro sign there is the Greek letter
            others += tuple(mu + short for mu in "u\u03bc" for short in (symbol, *shorts))
        if prefix == "deka":
            others += tuple(f"deca{name}" for name in (base, *more))
        found[prefix + base] = _Unit(Fraction(10) ** power, sign + symbol, others)
    return found


_INCH = Fraction("0.0254")
# by their OME-NGFF names, which are those of UDUNITS
_LENGTHS = {
    **_metric("meter", "m", ("metre", "meters", "metres")),
    "angstrom": _Unit(
        Fraction("1e-10"), "\u00c5", ("\u212b", "A", "angstroms", "\u00e5ngstr\u00f6m")
    ),
    "thou": _Unit(_INCH / 1000, "thou", ("mil", "mils")),
    "line": _Unit(_INCH / 12, "li", ("lines",)),
    "point": _Unit(_INCH / 72, "pt", ("points",)),
    "inch": _Unit(_INCH, "in", ("inches", '"')),
    "foot": _Unit(_INCH * 12, "ft", ("feet",)),
    "yard": _Unit(_INCH * 36, "yd", ("yards",)),
    "mile": _Unit(_INCH * 63360, "mi", ("miles",)),
    "astronomical_unit": _Unit(Fraction(149597870700), "ua", ("au", "astronomical unit")),
    "light_year": _Unit(Fraction(9460730472580800), "ly", ("light year",)),
    "parsec": _Unit(Fraction(30856775814913673), "pc", ("parsecs",)),
}
_LENGTHS["micrometer"] = _LENGTHS["micrometer"]._replace(
    others=(*_LENGTHS["micrometer"].others, "micron", "microns")
)
_TIMES = {
    **_metric("second", "s", ("secs", "seconds"), ("sec",)),
    "minute": _Unit(Fraction(60), "min", ("minutes",)),
    "hour": _Unit(Fraction(3600), "h", ("hours", "hr")),
    "day": _Unit(Fraction(86400), "d", ("days",)),
}
_NO_UNIT = ("", "pixel", "pixels", "voxel", "voxels", "none", "unknown", "null")


def _by_spelling(units: dict[str, _Unit]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, unit in units.items():
        found |= dict.fromkeys((name, unit.symbol, *unit.others), name)
    return found


_SPELLINGS = (_by_spelling(_LENGTHS), _by_spelling(_TIMES))


def length_unit(text: Any) -> str | None:
    """Return the OME-NGFF name of a unit of length; others as they are, None if it is none.

    Parameters
    ----------
    text : Any
        What a file says: a symbol or a name. Mm and mm are two units;
        where that leaves nothing, capitals do not matter.
    """
    return _named(text, _SPELLINGS[0])


def time_unit(text: Any) -> str | None:
    """Return the OME-NGFF name of a unit of time, as `length_unit` does with lengths."""
    return _named(text, _SPELLINGS[1])


def symbol(unit: str | None) -> str | None:
    """Return what OME calls a unit of length or time, or None if it does not know it."""
    known = _LENGTHS.get(unit or "") or _TIMES.get(unit or "")
    return known.symbol if known else None


def converted(value: float, unit: str | None, wanted: str | None) -> float | None:
    """Return a length or time in another unit, or None if one of the two is not known."""
    for units in (_LENGTHS, _TIMES):
        if unit in units and wanted in units:
            return value * float(units[unit].size / units[wanted].size)
    return value if unit == wanted else None


def rescaled(spacing: Spacing, unit: str | None, wanted: str | None) -> Spacing:
    """Spacing in another unit of length; as it is if either is unknown."""
    factor = converted(1.0, unit, wanted) or 1.0
    return (spacing[0] * factor, spacing[1] * factor, spacing[2] * factor)


def to_one(units: Sequence[str | None]) -> tuple[str | None, list[float]]:
    """Bring axes to the unit of the last one that has any.

    Parameters
    ----------
    units : sequence of str or None
        Unit of each axis; those without one count as the others do.

    Returns
    -------
    unit : str or None
        The unit of all, or None if they cannot be compared.
    factors : list of float
        What a length along each axis has to be multiplied by.
    """
    wanted = next((unit for unit in reversed(units) if unit is not None), None)
    factors = [1.0 if unit is None else converted(1.0, unit, wanted) for unit in units]
    known = [factor for factor in factors if factor is not None]
    return (wanted, known) if len(known) == len(units) else (None, [1.0] * len(units))


def _named(text: Any, spellings: dict[str, str]) -> str | None:
    if not isinstance(text, str):
        return None
    # ImageJ writes what is not ASCII as Java does
    name = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text).strip()
    if name.lower() in _NO_UNIT:
        return None
    return spellings.get(name) or spellings.get(name.lower()) or name
