"""Preparing a data set: recordings are found, split by patient, cut into sequences and listed."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from imos_core.errors import FileError, ImosError
from imos_core.moving import patiently, remove_folder
from imos_core.prepare import amos22, camus, cholecseg8k, epfl
from imos_core.prepare.sequences import Entry, sequences_of, write_sequence
from imos_core.prepare.splits import HELD_OUT, SPLITS, split_patients
from imos_core.whole_files import bring_to_disk, new_folder, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from imos_core.prepare.recording import Case, Dataset, Warn

DATASETS: dict[str, Dataset] = {
    d.name: d for d in (amos22.DATASET, camus.DATASET, cholecseg8k.DATASET, epfl.DATASET)
}
"""Data sets that can be read, by name."""

MANIFEST = "manifest.json"
"""List of all sequences for training, validation and test, beside the folders of the splits; the
sequences that are held out of training have one of their own in their folder."""


def prepare(
    name: str,
    source: Path,
    destination: Path,
    *,
    size: int = 480,
    seed: int = 0,
    warn: Warn,
    track: Callable[[Sequence[Case]], Iterator[Case]] = iter,
) -> list[Entry]:
    """Write the sequences of a data set; what was there of the same data set is replaced.

    Parameters
    ----------
    name : str
        One of `DATASETS`.
    source : Path
        Folder that the data set was unpacked into.
    destination : Path
        Folder to write ``<split>/<modality>/<name>.npz`` and the manifest into. Nothing in it
        changes before everything is read; what other data sets put there stays.
    size : int
        Height and width of the frames; 0: as they are.
    seed : int
        Of the split.
    warn : callable
        Told of everything that is left out, one sentence each.
    track : callable
        Passes the recordings on, for a progress bar.

    Returns
    -------
    list of dict
        Entries of the manifest, those held out included.

    Raises
    ------
    FileError
        If nothing is found or nothing can be written.
    """
    dataset = DATASETS[name]
    kept = _earlier(destination, name)
    cases = dataset.find(source, warn)
    splits = split_patients(cases, seed)
    try:
        destination.mkdir(parents=True, exist_ok=True)
        staging = new_folder(destination / name)
    except OSError as error:
        raise FileError(f"{destination} cannot be written: choose another folder.") from error
    try:
        entries: list[Entry] = []
        for case in track(cases):
            try:
                recording = case.load()
                found = [
                    write_sequence(
                        staging, dataset, case, splits[case.patient], sequence, recording
                    )
                    for sequence in sequences_of(recording, size)
                ]
            except ImosError as error:
                warn(f"{case.name} is left out: {error}")
                continue
            if not found:
                warn(f"{case.name} holds no object that is in two frames.")
            entries += found
        if not entries:
            raise FileError(f"No recording in {source} holds an object: nothing was written.")
        _replace(staging, destination, kept, entries, name)
    except OSError as error:
        raise FileError(f"{destination} cannot be written: {reason(error)}.") from error
    finally:
        remove_folder(staging)
    return entries


def read_manifest(folder: Path) -> list[Entry]:
    """Entries of all sequences in a prepared folder, those held out included.

    Raises
    ------
    FileError
        If a manifest is none of ours.
    """
    entries: list[Entry] = []
    for path in (folder / MANIFEST, folder / HELD_OUT / MANIFEST):
        if not path.exists():
            continue
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))
            for entry in listed:
                inside = Path(entry["file"])
                if {"source", "split"} - set(entry) or inside.is_absolute() or ".." in inside.parts:
                    raise ValueError
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise FileError(
                f"{path} is no manifest of prepared sequences: choose another folder."
            ) from error
        entries += listed
    return entries


def _earlier(destination: Path, name: str) -> list[Entry]:
    """What is there already; refuses a folder that is used for something else."""
    if destination.exists() and not destination.is_dir():
        raise FileError(f"{destination} is a file: give a folder.")
    return read_manifest(destination)


def _replace(
    staging: Path, destination: Path, earlier: list[Entry], entries: list[Entry], name: str
) -> None:
    """Put new sequences into the place of those of an earlier run."""
    everything = [e for e in earlier if e["source"] != name] + entries
    manifests: list[tuple[Path, Path]] = []
    for place, splits in ((destination, SPLITS), (destination / HELD_OUT, (HELD_OUT,))):
        listed = [e for e in everything if e["split"] in splits]
        path = place / MANIFEST
        if listed or path.exists():
            # written before anything goes: the disk may be full by now
            written = staging / f"{len(manifests)}.json"
            written.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
            bring_to_disk(written)
            manifests.append((written, path))
    for entry in earlier:
        if entry["source"] == name:
            # an earlier seed may have dealt it to another split
            with suppress(FileNotFoundError):
                patiently(os.unlink, destination / entry["file"])
    for entry in entries:
        path = destination / entry["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        patiently(os.replace, staging / entry["file"], path)
    for written, path in manifests:
        patiently(os.replace, written, path)
