"""Tables of results: by modality, by category, by direction, and over all objects."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imos_core.evaluation.protocols import Result

_SCORES = {"j": "J", "f": "F", "mean": "J&F", "leak": "leak", "leaking": "leaking"}
"""Columns of a method: attribute and title."""

_DIRECTIONS = {"first": "forward", "last": "backward", "middle": "both ways"}
"""Where masks go from the prompt, by protocol."""

_FIELDS = (
    "method", "protocol", "modality", "category", "seen", "sequence", "label", "j", "f", "j_and_f",
    "slices", "seconds", "leak", "leaking",
)  # fmt: skip
"""Columns of the CSV."""


def table(results: Sequence[Result]) -> str:
    """Markdown tables, one per protocol: J, F and J&F, mean (deviation over objects).

    Where slices beyond the ends of objects were asked for, two more columns: the mean area that
    was found there (of the object's largest true area), and the share of those slices that are
    not empty.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods.
    """
    blocks = []
    methods = list(dict.fromkeys(r.method for r in results))
    for protocol in dict.fromkeys(r.protocol for r in results):
        chosen = [r for r in results if r.protocol == protocol]
        scores = dict(_SCORES)
        if all(r.leak is None for r in chosen):
            del scores["leak"], scores["leaking"]
        titles = [f"{m} {' | '.join(scores.values())}" for m in methods]
        lines = [
            f"Protocol `{protocol}`",
            "",
            "| modality | objects | " + " | ".join(titles) + " |",
            "|---|---:|" + "---:|" * (len(scores) * len(methods)),
        ]
        modalities = sorted({r.modality for r in chosen})
        groups = {m: [r for r in chosen if r.modality == m] for m in modalities}
        lines += [_line(name, group, methods, scores) for name, group in groups.items()]
        if len(modalities) > 1:
            lines.append(_line("**all objects**", chosen, methods, scores))
            lines.append(_balanced(list(groups.values()), methods, scores))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def tables(results: Sequence[Result]) -> list[str]:
    """All tables that the results have something for.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods and protocols.
    """
    found = [table(results)]
    if any(r.category for r in results):
        found.append(category_table(results))
    if any(r.protocol == "last" for r in results) and len({r.protocol for r in results}) > 1:
        found.append(direction_table(results))
    return found


def category_table(results: Sequence[Result]) -> str:
    """Markdown tables, one per protocol: J, F and J&F by category, mean (deviation over objects).

    Categories that are not trained on have a star. Where there are both kinds, each has a row
    over all its objects.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods; those without a category are left out.
    """
    blocks = []
    methods = list(dict.fromkeys(r.method for r in results))
    scores = {name: _SCORES[name] for name in ("j", "f", "mean")}
    titles = [f"{m} {' | '.join(scores.values())}" for m in methods]
    for protocol in dict.fromkeys(r.protocol for r in results):
        chosen = [r for r in results if r.protocol == protocol and r.category]
        if not chosen:
            continue
        lines = [
            f"Protocol `{protocol}` ({_DIRECTIONS[protocol]}), by category",
            "",
            "| category | objects | " + " | ".join(titles) + " |",
            "|---|---:|" + "---:|" * (len(scores) * len(methods)),
        ]
        groups = _by_category(chosen)
        lines += [_line(name, group, methods, scores) for name, group in groups.items()]
        seen = [r for r in chosen if r.seen]
        unseen = [r for r in chosen if r.seen is False]
        if seen and unseen:
            lines.append(_line("**seen**", seen, methods, scores))
            lines.append(_line("**unseen**", unseen, methods, scores))
        if unseen:
            lines += ["", r"\* not trained on"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def direction_table(results: Sequence[Result]) -> str:
    """Markdown table of J&F forward, backward and both ways, side by side.

    Parameters
    ----------
    results : sequence of Result
        Results under any of the protocols; rows are categories, or modalities where those are
        not known.
    """
    methods = list(dict.fromkeys(r.method for r in results))
    protocols = [p for p in _DIRECTIONS if any(r.protocol == p for r in results)]
    titles = [f"{m} {_DIRECTIONS[p]}" for m in methods for p in protocols]
    lines = [
        "J&F by direction",
        "",
        "| | " + " | ".join(titles) + " |",
        "|---|" + "---:|" * len(titles),
    ]
    groups = _by_category(results)
    for name, group in {**groups, "**all objects**": results}.items():
        cells = []
        for method in methods:
            for protocol in protocols:
                own = [r for r in group if (r.method, r.protocol) == (method, protocol)]
                cells.append(_cell(_values(own, "mean")))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if any(r.seen is False for r in results):
        lines += ["", r"\* not trained on"]
    return "\n".join(lines)


def to_csv(results: Sequence[Result]) -> str:
    """All results as CSV, one object of one method and protocol a line; what is unknown is empty.

    Parameters
    ----------
    results : sequence of Result
        Results.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_FIELDS)
    for r in results:
        values = {**vars(r), "j_and_f": r.mean}
        writer.writerow([_exact(values[field]) for field in _FIELDS])
    return text.getvalue()


def speed(results: Sequence[Result], method: str) -> float:
    """Slices per second of a method over all its tasks."""
    own = [r for r in results if r.method == method]
    return sum(r.slices for r in own) / max(sum(r.seconds for r in own), 1e-9)


def _by_category(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by modality and category, those with a star last in their modality."""
    groups: dict[tuple[str, bool, str], list[Result]] = {}
    for r in results:
        groups.setdefault((r.modality, r.seen is False, r.category), []).append(r)
    return {
        f"{modality} {category}".rstrip() + (r" \*" if unseen else ""): groups[key]
        for key in sorted(groups)
        for modality, unseen, category in [key]
    }


def _exact(value: object) -> object:
    """Value for a CSV cell."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def _line(
    name: str, results: Sequence[Result], methods: Sequence[str], scores: Iterable[str]
) -> str:
    cells = []
    count = 0
    for method in methods:
        own = [r for r in results if r.method == method]
        count = len(own)
        cells += [_cell(_values(own, score)) for score in scores]
    return f"| {name} | {count} | " + " | ".join(cells) + " |"


def _balanced(
    groups: Sequence[Sequence[Result]], methods: Sequence[str], scores: Iterable[str]
) -> str:
    """Mean of the modalities' means, so that many cells do not outvote one organ."""
    cells = []
    for method in methods:
        for score in scores:
            values = [_values([r for r in g if r.method == method], score) for g in groups]
            means = [np.mean(v) for v in values if v]
            cells.append(f"{np.mean(means):.3f}" if means else "-")
    return f"| **mean of modalities** | {len(groups)} | " + " | ".join(cells) + " |"


def _values(results: Sequence[Result], score: str) -> list[float]:
    """Scores of results that have them."""
    values = [getattr(r, score) for r in results]
    return [v for v in values if v is not None]


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({np.std(values):.2f})" if values else "-"
