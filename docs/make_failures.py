"""Draw where the model fails on the embedded samples: ``python docs/make_failures.py OUT.png``.

Every object of every sample is followed through the whole volume from the sample's painted slice;
the objects with the lowest scores are drawn below each other, with the truth as a white line.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from imos_core import load_model, propagate
from imos_core.metrics import j_and_f
from imos_core.overview import contact_sheet
from imos_core.review import slice_confidence
from imos_core.samples import load_sample, sample_names


def main() -> None:
    """Follow, rank, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="imos-compact")
    parser.add_argument("--count", type=int, default=3)
    options = parser.parse_args()
    model = load_model(options.model)
    found = []
    for name in sample_names():
        sample = load_sample(name)
        labels = np.zeros_like(sample.labels)
        sure = np.ones(len(labels))
        for piece in propagate(
            sample.image,
            {sample.prompt_slice: sample.labels[sample.prompt_slice]},
            model=model,
            spacing=sample.spacing,
        ):
            labels[piece.index] = piece.labels
            sure[piece.index] = slice_confidence(piece.confidence, piece.labels)
        for label in np.unique(sample.labels[sample.prompt_slice]):
            if label:
                mask, truth = labels == label, sample.labels == label
                scores = j_and_f(mask, truth, skip=(sample.prompt_slice,))
                found.append((scores.mean, name, label, sample, mask, truth, sure))
    found.sort(key=lambda entry: entry[0])
    sheets = [
        contact_sheet(
            sample.image,
            mask.astype(np.uint8),
            [sample.prompt_slice],
            confidence=sure,
            truth=truth.astype(np.uint8),
            title=f"{name}, object {label}: J&F {score:.2f}",
            captions={1: f"object {label}"},
            panel=150,
        )
        for score, name, label, sample, mask, truth, sure in found[: options.count]
    ]
    width = max(s.width for s in sheets)
    page = Image.new("RGB", (width, sum(s.height for s in sheets)), sheets[0].getpixel((0, 0)))
    top = 0
    for sheet in sheets:
        page.paste(sheet, (0, top))
        top += sheet.height
    page.quantize(128).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
