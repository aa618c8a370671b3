"""Damaged slices: what a lost slice costs the others, and what bridging it saves.

Run ``python benchmarks/damage.py FOLDER``; FOLDER holds ``<modality>/<name>.npz`` sequences. One
object of each is painted on one slice and carried forward; some slices on the way are spoilt by
hand, and do not count. Training sequences will do: what is lost is measured, not how good it is.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from imos_core import load_model, propagate
from imos_core.evaluation.protocols import read_sequences
from imos_core.metrics import jaccard
from imos_core.review import expected_jaccard
from imos_core.walking import cohort

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from imos_core.model import IMOS

CHOSEN = (
    "plantseg_1135,neuroproof_fibsem_a,gala_fibsem_train,hela_02_errseg,mouse_fvb_invivo_1,"
    "colin27_aal,ts_s0024_abdomen,ts_s0024_pelvis,itksnap_mricrop,ctc_sim_01,tptbox_vertebrae,"
    "trus_prostate_000001,msd_hippocampus_001,davis16_soapbox,cho_02_z2,laptrack_cells,"
    "lung_proton_0004,sct_t1_cord"
)
"""Sequences of the training split, of all modalities."""
AHEAD = 3
"""Slices from the painted one to the first damaged one."""

REACH = 14
"""Slices on either side of the painted one where nothing is damaged."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", default=CHOSEN, help="sequences, with commas between")
    parser.add_argument("--without", action="store_true", help="do not bridge them")
    parser.add_argument("--undamaged", action="store_true", help="count what is bridged wrongly")
    parser.add_argument("--model", default="imos-compact")
    options = parser.parse_args(arguments)
    if options.undamaged:
        sys.stdout.write(bridged(options.folder, load_model(options.model)) + "\n")
        return
    if options.without:
        cohort.FARTHEST = 0
    names, model = options.names.split(","), load_model(options.model)
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for sequence in tqdm([s for s in read_sequences(options.folder) if s.name in names]):
        image, truth, k = stretch(sequence.image, sequence.labels)
        for name, spoilt, bad, painted in damages(image, k):
            found[name].append(scores(spoilt, truth, bad, painted, model))
    lines = ["| spoilt | objects | J of others | J of these | their confidence |"]
    lines.append("|---|" + "---:|" * 4)
    for name, rows in found.items():
        means = np.mean(rows, 0)
        lines.append(f"| {name} | {len(rows)} | " + " | ".join(f"{m:.3f}" for m in means) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


def bridged(folder: Path, model: IMOS) -> str:
    """What is taken for damaged around one object of every sequence, none of which is."""
    decide, found, walked = cohort.damaged, [], 0

    def noted(*arguments: Any) -> list[int]:
        found.append(decide(*arguments))
        return found[-1]

    cohort.damaged = noted
    sequences = list(read_sequences(folder))
    for sequence in tqdm(sequences):
        ids = [i for i in np.unique(sequence.labels) if i]
        ids.sort(key=lambda i: -int((sequence.labels == i).sum()))
        truth = sequence.labels == ids[len(ids) // 2]
        k = int(truth.sum((1, 2)).argmax())
        for _ in propagate(
            sequence.image,
            {k: truth[k].astype(np.uint8)},
            start=max(k - REACH, 0),
            stop=min(k + REACH + 1, len(truth)),
            model=model,
            spacing=sequence.spacing,
            channels_last=sequence.image.ndim == 4,
        ):
            walked += 1
    count, walked = len(sequences), walked - len(sequences)
    return f"{sum(map(len, found))} of {walked} slices of {count} sequences are bridged"


def stretch(
    image: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], int]:
    """Some slices that all show an object of upper middle size, and the one to paint."""
    ids = [i for i in np.unique(labels) if i and (labels == i).any((1, 2)).sum() >= 10]
    ids.sort(key=lambda i: -int((labels == i).sum()))
    truth = labels == ids[len(ids) // 3]
    shown = np.flatnonzero(truth.any((1, 2)))
    k = int(shown[len(shown) // 3])
    start, stop = max(shown[0], k - 1), min(shown[-1] + 1, k + 10)
    return image[start:stop], truth[start:stop], k - start


def damages(
    image: npt.NDArray[Any], k: int
) -> list[tuple[str, npt.NDArray[Any], list[int], list[int]]]:
    """Name, image, spoilt slices and painted ones of everything that is measured."""
    bad, last = min(k + AHEAD, len(image) - 2), len(image) - 1
    noise = np.random.default_rng(0).integers(0, 256, image[bad].shape)
    kinds: list[tuple[str, Any, list[int], list[int]]] = [
        ("none", image[bad], [bad], [k]),
        ("one black", 0, [bad], [k]),
        ("one white", 255, [bad], [k]),
        ("two black", 0, [bad, bad + 1], [k]),
        ("one of noise", noise, [bad], [k]),
        ("none, between two painted", image[bad], [bad], [k, last]),
        ("one black, between two painted", 0, [bad], [k, last]),
    ]
    made = []
    for name, value, where, painted in kinds:
        spoilt = image.copy()
        spoilt[where] = value
        made.append((name, spoilt, where, painted))
    return made


def scores(
    image: npt.NDArray[Any],
    truth: npt.NDArray[np.bool_],
    bad: list[int],
    painted: list[int],
    model: IMOS,
) -> tuple[float, float, float]:
    """Mean Jaccard index of other slices and of the spoilt ones, and the confidence of these."""
    prompts = {p: truth[p].astype(np.uint8) for p in painted}
    way = "forward" if len(painted) == 1 else "both"
    others, theirs, sure = [], [], []
    for piece in propagate(
        image, prompts, model=model, direction=way, channels_last=image.ndim == 4
    ):
        score = float(jaccard(piece.labels > 0, truth[piece.index]))
        if piece.index in bad:
            theirs.append(score)
            away = min(abs(piece.index - p) for p in painted)
            sure.append(expected_jaccard(piece.confidence, piece.labels, away))
        elif piece.index not in painted and truth[piece.index].any():
            others.append(score)
    return float(np.mean(others)), float(np.mean(theirs)), float(np.mean(sure))


if __name__ == "__main__":
    main()
