"""Splits: patients, never recordings, are dealt out 3:1:1 to training, validation and test."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imos_core.prepare.recording import Case

SPLITS = ("train", "val", "test")
"""Names of the splits, which are names of folders."""
HELD_OUT = "held_out"
"""Folder of categories that are not trained on, from patients that are."""


def split_patients(cases: Iterable[Case], seed: int) -> dict[str, str]:
    """Deal patients out, each modality by itself; the same seed deals the same.

    Parameters
    ----------
    cases : iterable of Case
        Recordings. Where a case prescribes a split, its patient goes there.
    seed : int
        Of the shuffle.

    Returns
    -------
    dict of str to str
        Split by patient. Shares are 3:1:1, rounded; of three patients or more, no split is empty;
        of two, one is for training and one for the test.
    """
    modalities: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for case in cases:
        # a patient with several modalities stays with the first
        if case.patient not in splits:
            splits[case.patient] = case.split or ""
            modalities.setdefault(case.modality, []).append(case.patient)
        elif case.split:
            splits[case.patient] = case.split
    for modality, patients in modalities.items():
        free = sorted(p for p in patients if not splits[p])
        # a name of its own, so that more CT volumes do not deal MRI out anew
        rng = np.random.default_rng([seed, zlib.crc32(modality.encode())])
        rng.shuffle(free)
        splits |= dict(zip(free, _shares(len(free)), strict=True))
    return splits


def folder_of(split: str, *, seen: bool) -> str:
    """Folder that a sequence goes to: what is never trained on is met in the test only."""
    return split if seen or split == "test" else HELD_OUT


def _shares(count: int) -> list[str]:
    fifth = round(count / 5)
    if count >= 3:
        fifth = max(fifth, 1)
    val, test = fifth, fifth
    if count == 2:
        val, test = 0, 1
    return ["train"] * (count - val - test) + ["val"] * val + ["test"] * test
