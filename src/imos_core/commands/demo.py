"""What `imos demo` does: carries a prompt through the sample, scores the result and draws it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from imos_core.commands.output import say, with_progress
from imos_core.errors import FileError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def demo(options: argparse.Namespace) -> None:
    """Propagate the prompt of the sample, score the result and draw it."""
    import imos_core
    from imos_core.evaluation.volumes import as_table, compare
    from imos_core.io import Volume, write_labels
    from imos_core.overview import contact_sheet
    from imos_core.review import anchor_distance, expected_jaccard
    from imos_core.samples import load_sample
    from imos_core.whole_files import reason, swapped_in

    model = imos_core.load_model(options.model, device=options.device)
    folder: Path = options.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The folder {folder} cannot be made ({reason(error)}): choose another."
        ) from error
    sample = load_sample()
    k = sample.prompt_slice
    result = np.zeros_like(sample.labels)
    certain = np.full(len(result), np.nan)
    slices = imos_core.propagate(
        sample.image, {k: sample.labels[k]}, model=model, spacing=sample.spacing
    )
    started = time.perf_counter()
    for item in with_progress(slices, len(result), quiet=options.quiet):
        result[item.index] = item.labels
        away = anchor_distance(item.index, [k])
        certain[item.index] = expected_jaccard(item.confidence, item.labels, away)
    rate = (len(result) - 1) / (time.perf_counter() - started)
    scores = compare(result, sample.labels, skip=[k])
    sheet = contact_sheet(
        sample.image,
        result,
        [k],
        confidence=certain,
        truth=sample.labels,
        pixel=sample.spacing[1:],
        title=sample.description,
        captions={s.label: f"{s.label}   J {s.j:.3f}   F {s.f:.3f}" for s in scores},
    )
    write_labels(folder / "labels.tif", result, Volume(result, sample.spacing, unit="millimeter"))
    with swapped_in(folder / "overview.png") as partial:
        sheet.save(partial)
    say(
        f"{sample.description} Prompt: slice {k} of {len(result)}.\n\n{as_table(scores)}\n\n"
        f"{rate:.1f} slices/s\n"
        f"wrote {folder / 'labels.tif'} and {folder / 'overview.png'}"
    )
