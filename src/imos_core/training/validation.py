"""Validation while training: scores by modality, their log, and when weights may replace others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imos_core.errors import FileError
from imos_core.evaluation.methods import ImosMethod
from imos_core.evaluation.protocols import PROTOCOLS, modalities_in, read_sequences, tasks_of
from imos_core.evaluation.scoring import evaluate_folder
from imos_core.training.log import CsvLog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from imos_core.evaluation.protocols import Protocol
    from imos_core.evaluation.scoring import Result
    from imos_core.model import IMOS

MOST_LOST = 0.01
"""How much J&F a modality may lose when weights are replaced."""

_COLUMNS = ("step", "seconds", "protocol", "modality", "objects", "j", "f", "j_and_f", "leak")


def check_validation(folder: Path, modalities: Sequence[str] = ()) -> tuple[str, ...]:
    """Refuse what `validate` could not score, before anything is trained.

    Parameters
    ----------
    folder, modalities
        See `validate`.

    Returns
    -------
    tuple of str
        Modalities that there are, of those asked for.

    Raises
    ------
    FileError
        If there are no sequences, one cannot be read, or none has an object in two slices.
    """
    there = modalities_in(folder)
    # training may know more modalities than validation
    asked = tuple(m for m in there if not modalities or m in modalities)
    # all are read, not only the first one that serves
    tasks = [len(tasks_of(s, "middle", 1)) for s in read_sequences(folder, asked or modalities)]
    if not any(tasks):
        raise FileError(
            f"No object in {folder} is in two slices, so that nothing can be validated: choose "
            "other validation sequences."
        )
    return asked


def validate(
    model: IMOS,
    folder: Path,
    *,
    protocols: Sequence[Protocol] = PROTOCOLS,
    max_objects: int | None = 2,
    modalities: Sequence[str] = (),
    mirrored: bool = False,
    device: str = "auto",
) -> list[Result]:
    """Propagate objects of validation sequences and score them.

    Parameters
    ----------
    model : IMOS
        Network; it is left as it was.
    folder : Path
        Folder with ``<modality>/<name>.npz``.
    protocols : sequence of str
        ``first``, ``last``, ``middle``.
    max_objects : int, optional
        Most objects per sequence.
    modalities : sequence of str
        Only these folders; empty: all.
    mirrored : bool
        Whether every sequence is also met in its mirror images.
    device : str
        Where to run.

    Raises
    ------
    FileError
        If there are no sequences.
    """
    method = ImosMethod(model, device=device)
    methods = {"imos": method}
    return list(
        evaluate_folder(folder, methods, protocols, max_objects, modalities, mirrored=mirrored)
    )


def scores_by_modality(results: Sequence[Result]) -> dict[str, float]:
    """Mean J&F of each modality, protocols counting alike."""
    groups: dict[str, dict[str, list[float]]] = {}
    for r in results:
        groups.setdefault(r.modality, {}).setdefault(r.protocol, []).append(r.mean)
    return {
        modality: float(np.mean([np.mean(values) for values in protocols.values()]))
        for modality, protocols in sorted(groups.items())
    }


def balanced_score(results: Sequence[Result]) -> float:
    """Mean of the modalities' scores."""
    return float(np.mean(list(scores_by_modality(results).values())))


def log_validation(path: Path, step: int, seconds: float, results: Sequence[Result]) -> None:
    """Append one line per protocol and modality to a CSV file."""
    with CsvLog(path, _COLUMNS) as log:
        for protocol in dict.fromkeys(r.protocol for r in results):
            for modality in sorted({r.modality for r in results}):
                own = [r for r in results if (r.protocol, r.modality) == (protocol, modality)]
                leaks = [r.leak for r in own if r.leak is not None]
                scores = [np.mean([getattr(r, name) for r in own]) for name in ("j", "f", "mean")]
                log.write(
                    step,
                    f"{seconds:.0f}",
                    protocol,
                    modality,
                    len(own),
                    *(f"{s:.4f}" for s in scores),
                    f"{np.mean(leaks):.4f}" if leaks else "",
                )


@dataclass(frozen=True)
class Verdict:
    """Whether new weights may replace old ones."""

    better: bool
    """Whether they may."""
    reason: str
    """One sentence."""


def judge(
    before: Mapping[str, float], after: Mapping[str, float], most_lost: float = MOST_LOST
) -> Verdict:
    """Compare scores by modality: the mean must improve, and no modality lose more than a little.

    Parameters
    ----------
    before, after : mapping of str to float
        Score of each modality, with the old and with the new weights.
    most_lost : float
        How much a modality may lose.

    Raises
    ------
    ValueError
        If they are not about the same modalities.
    """
    if not before or set(before) != set(after):
        raise ValueError("Weights are compared on the same modalities, at least one.")
    gain = float(np.mean([after[m] - before[m] for m in before]))
    worst = min(before, key=lambda m: after[m] - before[m])
    lost = before[worst] - after[worst]
    # scores come from floats: exactly `most_lost` is allowed
    if lost > most_lost + 1e-9:
        return Verdict(False, f"{worst} loses {lost:.3f}, more than {most_lost:g}.")
    if gain <= 0:
        return Verdict(False, f"The mean over modalities changes by {gain:+.4f}: no gain.")
    return Verdict(True, f"The mean over modalities gains {gain:.4f}.")
