"""What `imos demo` does: carries a prompt through the sample, scores the result and draws it."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imos_core.commands.output import say, with_progress
from imos_core.errors import FileError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

_OF = "imos demo"
"""Text in the picture that says of which labels it is, by their checksum."""


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
    labels, overview = folder / "labels.tif", folder / "overview.png"
    _refuse_to_replace(labels, overview)
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
    # the picture moves in first: alone, too, it says that the folder is ours to write to
    with swapped_in(labels) as new_labels, swapped_in(overview) as new_overview:
        write_labels(new_labels, result, Volume(result, sample.spacing, unit="millimeter"))
        mark = PngInfo()
        mark.add_text(_OF, _sum_of(new_labels))
        sheet.save(new_overview, pnginfo=mark)
    say(
        f"{sample.description} Prompt: slice {k} of {len(result)}.\n\n{as_table(scores)}\n\n"
        f"{rate:.1f} slices/s\n"
        f"wrote {labels} and {overview}"
    )


def _refuse_to_replace(labels: Path, overview: Path) -> None:
    """Refuse to overwrite anything but what this command has written."""
    if not (labels.exists() or overview.exists()):
        return
    try:
        with Image.open(overview) as sheet:
            of = sheet.info.get(_OF)
        ours = of is not None and (not labels.exists() or of == _sum_of(labels))
    except Exception:  # what is no picture makes readers raise whatever they like
        ours = False
    if not ours:
        there = labels if labels.exists() else overview
        raise FileError(
            f"{there} exists and is not, as it is, what this version of imos demo has written: "
            f"choose another folder (--out), or remove {labels.name} and {overview.name} from "
            "this one."
        )


def _sum_of(labels: Path) -> str:
    return hashlib.sha256(labels.read_bytes()).hexdigest()
