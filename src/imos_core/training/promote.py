"""Replace weights by better ones only: ``python -m imos_core.training.promote NEW --data VAL``."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from imos_core.errors import ImosError
from imos_core.evaluation.protocols import PROTOCOLS, Protocol
from imos_core.training.validation import Verdict, judge, scores_by_modality, validate
from imos_core.weights import list_models, load_model
from imos_core.whole_files import swapped_in

STEADY: tuple[Protocol, ...] = ("first", "last", "middle")
"""Protocols of `--steady`."""


def promote(
    new: Path,
    old: Path,
    data: Path,
    *,
    protocols: tuple[Protocol, ...] = PROTOCOLS,
    max_objects: int | None = None,
    mirrored: bool = False,
    device: str = "auto",
    dry_run: bool = False,
) -> tuple[Verdict, dict[str, tuple[float, float]]]:
    """Validate two weights files alike and put the new one into the old one's place if it may.

    Parameters
    ----------
    new, old : Path
        Weights files.
    data : Path
        Folder of validation sequences.
    protocols : tuple of str
        Protocols that count.
    max_objects : int, optional
        Most objects per sequence.
    mirrored : bool
        Whether every sequence is also met in its mirror images.
    device : str
        Where to run.
    dry_run : bool
        Judge, but leave the files alone.

    Returns
    -------
    verdict : Verdict
        Whether the new weights are better, and why.
    scores : dict
        Score of each modality with the old and the new weights.
    """
    # both files are read before anything takes long
    models = [load_model(path, device=device) for path in (old, new)]
    for model in models:
        model.activations = {}  # new weights have none yet: eight bits are not judged
    before, after = (
        scores_by_modality(
            validate(
                model,
                data,
                protocols=protocols,
                max_objects=max_objects,
                mirrored=mirrored,
                device=device,
            )
        )
        for model in models
    )
    verdict = judge(before, after)
    if verdict.better and not dry_run:
        with swapped_in(old) as partial:
            shutil.copyfile(new, partial)
    return verdict, {m: (before[m], after[m]) for m in before}


def main(argv: list[str] | None = None) -> int:
    """Promote weights; exit with 0 if they are better, 1 if not, 2 if something does not serve."""
    embedded = next(i.path for i in list_models() if i.name == "imos-compact")
    parser = argparse.ArgumentParser(
        prog="python -m imos_core.training.promote",
        description="Put new weights into the place of old ones if the mean J&F over modalities "
        "improves and no modality loses more than 0.01.",
    )
    parser.add_argument("new", type=Path, help="weights file")
    parser.add_argument("--data", type=Path, required=True, help="folder of validation sequences")
    parser.add_argument("--over", type=Path, default=embedded, help="weights file (the embedded)")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--protocol", choices=STEADY, help="only this protocol (first and middle)")
    asked.add_argument(
        "--steady",
        action="store_true",
        help="prompt the first, last and middle slice, also in mirror images, so that few "
        "objects decide less by chance (takes six times as long)",
    )
    parser.add_argument("--max-objects", type=int, help="most objects per sequence (all)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry-run", action="store_true", help="judge only")
    options = parser.parse_args(argv)
    try:
        verdict, scores = promote(
            options.new,
            options.over,
            options.data,
            protocols=_protocols(options),
            max_objects=options.max_objects,
            mirrored=options.steady,
            device=options.device,
            dry_run=options.dry_run,
        )
    except ImosError as error:
        sys.stderr.write(f"promote: {error}\n")
        return 2
    for modality, (before, after) in scores.items():
        sys.stdout.write(f"{modality:<12} {before:.3f} -> {after:.3f}\n")
    done = "replaced" if verdict.better and not options.dry_run else "kept"
    sys.stdout.write(f"{verdict.reason} {options.over} is {done}.\n")
    return 0 if verdict.better else 1


def _protocols(options: argparse.Namespace) -> tuple[Protocol, ...]:
    if options.steady:
        return STEADY
    return PROTOCOLS if options.protocol is None else (options.protocol,)


if __name__ == "__main__":
    sys.exit(main())
