"""Tables of results: by modality and over all objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imos_core.evaluation.protocols import Result


def table(results: Sequence[Result]) -> str:
    """Markdown tables, one per protocol: J, F and J&F, mean (deviation over objects).

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods.
    """
    blocks = []
    methods = list(dict.fromkeys(r.method for r in results))
    for protocol in dict.fromkeys(r.protocol for r in results):
        lines = [
            f"Protocol `{protocol}`",
            "",
            "| modality | objects | " + " | ".join(f"{m} J | F | J&F" for m in methods) + " |",
            "|---|---:|" + "---:|" * (3 * len(methods)),
        ]
        chosen = [r for r in results if r.protocol == protocol]
        modalities = sorted({r.modality for r in chosen})
        for modality in modalities:
            lines.append(_line(modality, [r for r in chosen if r.modality == modality], methods))
        if len(modalities) > 1:
            lines.append(_line("**all objects**", chosen, methods))
            lines.append(_balanced(chosen, methods, modalities))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def speed(results: Sequence[Result], method: str) -> float:
    """Slices per second of a method over all its tasks."""
    own = [r for r in results if r.method == method]
    return sum(r.slices for r in own) / max(sum(r.seconds for r in own), 1e-9)


def _line(name: str, results: Sequence[Result], methods: Sequence[str]) -> str:
    cells = []
    count = 0
    for method in methods:
        own = [r for r in results if r.method == method]
        count = len(own)
        cells += [_cell([r.j for r in own]), _cell([r.f for r in own])]
        cells.append(_cell([r.mean for r in own]))
    return f"| {name} | {count} | " + " | ".join(cells) + " |"


def _balanced(results: Sequence[Result], methods: Sequence[str], modalities: Sequence[str]) -> str:
    """Mean of the modalities' means, so that many cells do not outvote one organ."""
    cells = []
    for method in methods:
        for score in ("j", "f", "mean"):
            means = [
                np.mean([getattr(r, score) for r in results if (r.method, r.modality) == key])
                for key in ((method, m) for m in modalities)
            ]
            cells.append(f"{np.mean(means):.3f}")
    return f"| **mean of modalities** | {len(modalities)} | " + " | ".join(cells) + " |"


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({np.std(values):.2f})" if values else "-"
