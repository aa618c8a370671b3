"""What `imos prepare` does: a public data set in, sequences, a manifest and a table out."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from imos_core.commands.output import progress_bar, say
from imos_core.prepare.run import prepare as prepare_data_set
from imos_core.prepare.splits import HELD_OUT, SPLITS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from typing import Any

    from imos_core.prepare.recording import Case


def prepare(options: argparse.Namespace) -> None:
    """Write the sequences of a data set in its native layout."""
    from tqdm import tqdm

    def warn(message: str) -> None:
        tqdm.write(f"imos prepare: {' '.join(message.split())}", file=sys.stderr)

    def track(cases: Sequence[Case]) -> Iterator[Case]:
        with progress_bar(len(cases), "recording", quiet=options.quiet) as bar:
            for case in cases:
                yield case
                bar.update()

    entries = prepare_data_set(
        options.dataset,
        options.source,
        options.destination,
        size=options.size,
        seed=options.seed,
        warn=warn,
        track=track,
    )
    say(_table(entries))


def _table(entries: Sequence[dict[str, Any]]) -> str:
    """How many sequences of each category went where."""
    places = (*SPLITS, HELD_OUT)
    counts = Counter((e["modality"], e["category"], e["seen"], e["split"]) for e in entries)
    kinds = sorted({kind[:3] for kind in counts})
    titles = [f"{p.replace('_', ' '):>9}" for p in (*places, "all")]
    lines = [f"{'modality':<9} {'category':<28}{''.join(titles)}"]
    for modality, category, seen in kinds:
        row = [counts[modality, category, seen, place] for place in places]
        star = "" if seen else " *"
        cells = "".join(f"{n:>9}" for n in (*row, sum(row)))
        lines.append(f"{modality:<9} {category + star:<28}{cells}")
    patients = {e["patient"]: e["split"] for e in entries if e["split"] in SPLITS}
    dealt = Counter(patients.values())
    split = ", ".join(f"{dealt[place]} {place}" for place in SPLITS)
    lines.append(f"{len(entries)} sequences; patients: {split}")
    if any(not e["seen"] for e in entries):
        lines.append(f"* not trained on: in test, or in {HELD_OUT} if the patient is not in test")
    return "\n".join(lines)
