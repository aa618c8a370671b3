"""Tables of results: by modality and over all objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imos_core.evaluation.protocols import Result

_SCORES = {"j": "J", "f": "F", "mean": "J&F", "leak": "leak", "leaking": "leaking"}
"""Columns of a method: attribute and title."""


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


def speed(results: Sequence[Result], method: str) -> float:
    """Slices per second of a method over all its tasks."""
    own = [r for r in results if r.method == method]
    return sum(r.slices for r in own) / max(sum(r.seconds for r in own), 1e-9)


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
