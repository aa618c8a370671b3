"""What settings of propagation are worth: one changed at a time, scored side by side.

Run ``python benchmarks/settings.py FOLDER``; FOLDER holds ``<modality>/<name>.npz`` sequences. With
``--longest N``, only the N longest sequences: there, memory tiers matter most.
"""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from imos_core import MemoryConfig, load_model
from imos_core.evaluation.methods import ImosMethod
from imos_core.evaluation.protocols import PROTOCOLS, read_sequences, tasks_of
from imos_core.evaluation.scoring import score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imos_core.evaluation.scoring import Result
    from imos_core.model import IMOS

MEMORIES = {
    "as shipped": MemoryConfig(),
    "memorise every slice": MemoryConfig(memorize_every=1),
    "memorise every 10th": MemoryConfig(memorize_every=10),
    "top-k 8": MemoryConfig(top_k=8),
    "top-k 100": MemoryConfig(top_k=100),
    "working memory alone": MemoryConfig(long_term=False),
    "three tiers, filled early": MemoryConfig(
        memorize_every=2, min_working_frames=2, max_working_frames=4
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="imos-compact")
    parser.add_argument("--max-objects", type=int, default=2, help="most objects per sequence")
    parser.add_argument("--longest", type=int, help="only so many sequences, the longest")
    parser.add_argument("--windows", type=int, nargs="*", default=[96, 128, 160])
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    methods = {name: ImosMethod(model, memory=memory) for name, memory in MEMORIES.items()}
    for size in options.windows:
        if size != model.config.window_size:
            methods[f"window {size}"] = ImosMethod(_with_window(model, size))
    sequences = list(read_sequences(options.folder))
    if options.longest:
        sequences = sorted(sequences, key=lambda s: -len(s.image))[: options.longest]
    results: list[Result] = []
    for sequence in tqdm(sequences):
        for protocol in PROTOCOLS:
            for task in tasks_of(sequence, protocol, options.max_objects):
                results += [score(task, protocol, n, m) for n, m in methods.items()]
    sys.stdout.write(table(results) + "\n")


def table(results: Sequence[Result]) -> str:
    """Markdown: mean J&F over modalities by setting and protocol, and relative speed."""
    names = list(dict.fromkeys(r.method for r in results))
    base = sum(r.seconds for r in results if r.method == names[0])
    lines = ["| setting | first | middle | time |", "|---|---:|---:|---:|"]
    for name in names:
        own = [r for r in results if r.method == name]
        cells = []
        for protocol in PROTOCOLS:
            groups: dict[str, list[float]] = {}
            for r in own:
                if r.protocol == protocol:
                    groups.setdefault(r.modality, []).append(r.mean)
            cells.append(f"{np.mean([np.mean(v) for v in groups.values()]):.3f}")
        time = sum(r.seconds for r in own) / base
        lines.append(f"| {name} | {' | '.join(cells)} | {time:.2f} |")
    return "\n".join(lines)


def _with_window(model: IMOS, size: int) -> IMOS:
    other = copy.copy(model)
    other.config = replace(model.config, window_size=size)
    return other


if __name__ == "__main__":
    main()
