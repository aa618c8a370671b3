"""Results as tables (by modality, category, direction and distance; their cost), CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from imos_core.evaluation.tables import STAR, Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from imos_core.evaluation.scoring import Result

DIRECTIONS = {"first": "forward", "last": "backward", "middle": "both ways"}
"""Where masks go from the prompt, by protocol."""

_SCORES = {
    "j": "J",
    "f": "F",
    "mean": "J&F",
    "surface_dice": "surface Dice",
    "hd95": "HD95",
    "leak": "leak",
    "leaking": "leaking",
}
"""Columns: attribute and title."""
_BINS = ((1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, None))
"""Distances from the prompt that are shown together, in slices."""
_NOTE = f"{STAR.strip()} not trained on"

_FIELDS = (
    "method", "protocol", "modality", "category", "seen", "sequence", "label", "j", "f", "j_and_f",
    "slices", "seconds", "leak", "leaking", "surface_dice", "hd95", "prompts",
    "seconds_per_slice", "memory", "gpu_memory",
)  # fmt: skip
"""Columns of the CSV, before those of J by distance."""


def tables(results: Sequence[Result]) -> list[Table]:
    """All tables that the results have something for.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods and protocols.
    """
    found = score_tables(results) + category_tables(results)
    if any(r.protocol == "last" for r in results) and len({r.protocol for r in results}) > 1:
        found.append(direction_table(results))
    return [*found, *distance_tables(results), cost_table(results)]


def score_tables(results: Sequence[Result]) -> list[Table]:
    """Scores by modality, one table per protocol: mean (deviation over objects).

    Columns that no result has anything for are left out. Where slices beyond the ends of objects
    were asked for there are two more: the mean area that was found there (of the object's largest
    true area), and the share of those slices that are not empty. Distances of different
    modalities have different units, so they have no mean.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods.
    """
    made = []
    for protocol, chosen in _by_protocol(results):
        scores = [s for s in _SCORES if _values(chosen, s)]
        groups = by_modality(chosen)
        rows = [row for name in groups for row in _rows(name, groups[name], scores)]
        if len(groups) > 1:
            rows += _rows("all objects", chosen, scores, strong=True)
            rows += _balanced(groups, scores)
        made.append(
            Table(
                f"Protocol {protocol} ({DIRECTIONS[protocol]})",
                ("modality", "method", "objects", *(_SCORES[s] for s in scores)),
                tuple(rows),
                names=2,
            )
        )
    return made


def category_tables(results: Sequence[Result]) -> list[Table]:
    """J, F and J&F by category, one table per protocol: mean (deviation over objects).

    Categories that are not trained on have a star. Where there are both kinds, each has rows
    over all its objects.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods; those without a category are left out.
    """
    made = []
    scores = ("j", "f", "mean")
    for protocol, chosen in _by_protocol([r for r in results if r.category]):
        rows = [
            row for name, own in _by_category(chosen).items() for row in _rows(name, own, scores)
        ]
        seen = [r for r in chosen if r.seen]
        unseen = [r for r in chosen if r.seen is False]
        if seen and unseen:
            rows += _rows("seen", seen, scores, strong=True)
            rows += _rows("unseen", unseen, scores, strong=True)
        made.append(
            Table(
                f"Protocol {protocol} ({DIRECTIONS[protocol]}), by category",
                ("category", "method", "objects", *(_SCORES[s] for s in scores)),
                tuple(rows),
                names=2,
                note=_NOTE if unseen else "",
            )
        )
    return made


def direction_table(results: Sequence[Result]) -> Table:
    """J&F forward, backward and both ways, side by side.

    Parameters
    ----------
    results : sequence of Result
        Results under any of the protocols; rows are categories, or modalities where those are
        not known.
    """
    protocols = [p for p in DIRECTIONS if any(r.protocol == p for r in results)]
    rows, methods = [], _methods(results)
    for name, group in {**_by_category(results), "all objects": list(results)}.items():
        for title, method, own in _by_method(name, group, methods):
            cells = [_cell(_values([r for r in own if r.protocol == p], "mean")) for p in protocols]
            rows.append(Row((title, method, *cells), strong=name == "all objects"))
    return Table(
        "J&F by direction",
        ("", "method", *(DIRECTIONS[p] for p in protocols)),
        tuple(rows),
        names=2,
        note=_NOTE if any(r.seen is False for r in results) else "",
    )


def distance_tables(results: Sequence[Result]) -> list[Table]:
    """J over the distance from the prompt, one table per protocol: mean over slices.

    Slices that do not show the object do not count here.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods.
    """
    made = []
    for protocol, chosen in _by_protocol(results):
        longest = max((d for r in chosen for d, _ in r.by_slice), default=0)
        bins = [b for b in _BINS if b[0] <= longest]
        if not bins:
            continue
        groups = by_modality(chosen)
        if len(groups) > 1:
            groups["all objects"] = chosen
        rows = []
        for name, group in groups.items():
            for title, method, own in _by_method(name, group):
                pairs = [pair for r in own for pair in r.by_slice]
                cells = [_mean(_in_bin(pairs, b)) for b in bins]
                rows.append(Row((title, method, *cells), strong=name == "all objects"))
        made.append(
            Table(
                f"J by distance from the prompt, in slices (protocol {protocol})",
                ("modality", "method", *(_bin_title(b) for b in bins)),
                tuple(rows),
                names=2,
            )
        )
    return made


def cost_table(results: Sequence[Result]) -> Table:
    """Time for one slice of one object, and peak memory, by method.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods.
    """
    gpu = any(r.gpu_memory for r in results)
    rows = []
    for method in _methods(results):
        own = [r for r in results if r.method == method]
        slices, seconds = sum(r.slices for r in own), sum(r.seconds for r in own)
        cells = [
            method,
            str(slices),
            f"{seconds / max(slices, 1):.4f}",
            f"{speed(results, method):.1f}",
            f"{max(r.memory for r in own) / 1e9:.2f}",
        ]
        if gpu:
            cells.append(f"{max(r.gpu_memory for r in own) / 1e9:.2f}")
        rows.append(Row(tuple(cells)))
    columns = ["method", "slices", "seconds per slice", "slices/s", "peak memory, GB"]
    return Table(
        "Time and memory, one object at a time; memory is that of the whole process, data included",
        (*columns, "on the GPU, GB") if gpu else tuple(columns),
        tuple(rows),
    )


def to_csv(results: Sequence[Result]) -> str:
    """All results as CSV, one object of one method and protocol a line; what is unknown is empty.

    Parameters
    ----------
    results : sequence of Result
        Results.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [f"j_at_{_bin_title(b).replace(' or more', '_on').replace('-', '_')}" for b in _BINS]
    writer.writerow([*_FIELDS, *titles])
    for r in results:
        values = {**vars(r), "j_and_f": r.mean, "seconds_per_slice": r.seconds_per_slice}
        far = [_in_bin(r.by_slice, b) for b in _BINS]
        writer.writerow(
            [
                *(_exact(values[field]) for field in _FIELDS),
                *(float(np.mean(v)) if v else "" for v in far),
            ]
        )
    return text.getvalue()


def to_json(results: Sequence[Result]) -> str:
    """All results as JSON."""
    rows = [
        {**asdict(r), "mean": r.mean, "seconds_per_slice": r.seconds_per_slice} for r in results
    ]
    return json.dumps(rows, indent=1)


def speed(results: Sequence[Result], method: str) -> float:
    """Slices per second of a method over all its tasks."""
    own = [r for r in results if r.method == method]
    return sum(r.slices for r in own) / max(sum(r.seconds for r in own), 1e-9)


def _methods(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(r.method for r in results))


def _by_method(
    name: str, results: Sequence[Result], methods: Iterable[str] | None = None
) -> Iterator[tuple[str, str, list[Result]]]:
    """Title, method and results of each row of a group; the first row has the group's name."""
    for i, method in enumerate(methods or _methods(results)):
        yield name if i == 0 else "", method, [r for r in results if r.method == method]


def _by_protocol(results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
    for protocol in dict.fromkeys(r.protocol for r in results):
        yield protocol, [r for r in results if r.protocol == protocol]


def by_modality(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of each modality, in alphabetical order."""
    modalities = sorted({r.modality for r in results})
    return {m: [r for r in results if r.modality == m] for m in modalities}


def _by_category(results: Sequence[Result]) -> Mapping[str, list[Result]]:
    """Results by modality and category, those with a star last in their modality."""
    groups: dict[tuple[str, bool, str], list[Result]] = {}
    for r in results:
        groups.setdefault((r.modality, r.seen is False, r.category), []).append(r)
    return {
        f"{modality} {category}".rstrip() + (STAR if unseen else ""): groups[key]
        for key in sorted(groups)
        for modality, unseen, category in [key]
    }


def _rows(
    name: str, results: Sequence[Result], scores: Iterable[str], *, strong: bool = False
) -> list[Row]:
    """One row per method."""
    rows = []
    for title, method, own in _by_method(name, results):
        cells = [
            "-" if strong and score == "hd95" else _cell(_values(own, score)) for score in scores
        ]
        rows.append(Row((title, method, str(len(own)), *cells), strong))
    return rows


def _balanced(groups: Mapping[str, Sequence[Result]], scores: Iterable[str]) -> list[Row]:
    """Mean of the modalities' means, so that many cells do not outvote one organ."""
    rows = []
    results = [r for group in groups.values() for r in group]
    for title, method, own in _by_method("mean of modalities", results):
        cells, modalities = [], by_modality(own)
        for score in scores:
            means = [np.mean(v) for g in modalities.values() if (v := _values(g, score))]
            cells.append(f"{np.mean(means):.3f}" if means and score != "hd95" else "-")
        rows.append(Row((title, method, str(len(modalities)), *cells), strong=True))
    return rows


def _values(results: Sequence[Result], score: str) -> list[float]:
    """Scores of results that have them."""
    values = [getattr(r, score) for r in results]
    return [v for v in values if v is not None]


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({np.std(values):.2f})" if values else "-"


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}" if values else "-"


def _in_bin(
    by_slice: Iterable[tuple[int, float]], distances: tuple[int, int | None]
) -> list[float]:
    low, high = distances
    return [j for d, j in by_slice if low <= d and (high is None or d <= high)]


def _bin_title(distances: tuple[int, int | None]) -> str:
    low, high = distances
    if high is None:
        return f"{low} or more"
    return str(low) if low == high else f"{low}-{high}"


def _exact(value: object) -> object:
    """Value for a CSV cell."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value
