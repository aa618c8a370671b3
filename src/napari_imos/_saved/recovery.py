"""Recovery: labels that a process left behind when it crashed, and how they come back."""

from __future__ import annotations

import atexit
import json
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from platformdirs import user_data_path

from imos_core.errors import FileError
from imos_core.files.sidecar import DAMAGED
from imos_core.label_ids import ids_on
from napari_imos._placed import saved_place
from napari_imos._record.provenance import Foreign, Kind, Provenance, checksum
from napari_imos._saved.autosave import (
    FORMAT,
    RECORD,
    index_of,
    position_of,
    process_facts,
    put_record,
    throw_away,
)
from napari_imos._saved.session import restore_record
from napari_imos._walk import Walk

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Labels

_KEPT = 14 * 24 * 3600
"""Seconds after which nobody will come back for it."""
_OURS = re.compile(r"[0-9a-f]{32}")
"""Names of our folders."""


def autosave_folder() -> Path:
    """Return where autosaves are kept."""
    return Path(user_data_path("napari-imos", appauthor=False)) / "unsaved"


@dataclass(frozen=True)
class Unsaved:
    """Labels that a crash has left."""

    folder: Path
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the layer."""
        return str(self.record["labels"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the layer."""
        return tuple(int(n) for n in self.record["shape"])

    @property
    def when(self) -> str:
        """When it was last written, as people say it."""
        then = time.localtime(self.record["time"])
        today = time.localtime()[:3] == then[:3]
        return time.strftime("%H:%M" if today else "%d %B, %H:%M", then)

    def take_over(self) -> None:
        """Let it be this process's: it goes when this one ends as it should, and not before."""
        record = {**self.record, **process_facts()}
        try:
            put_record(self.folder, record)
        except OSError:
            return  # then the next start offers it once more
        atexit.register(self.discard)

    def discard(self) -> None:
        """Throw it away."""
        atexit.unregister(self.discard)
        throw_away(self.folder)

    def files(self) -> list[Path]:
        """Files of labels that count; what the record does not count was cut off."""
        return [self.folder / f"{number:05}.npz" for number in range(self.record["files"])]

    def is_whole(self) -> bool:
        """Whether all files are there: some may have gone, as far as the system let them."""
        return all(file.is_file() for file in self.files())


def find_unsaved() -> list[Unsaved]:
    """Find what crashed processes have left, the newest first; what is too old is deleted."""
    found = []
    for folder in autosave_folder().glob("*/"):
        try:
            record = _record_of(folder)
            if record["format"] != FORMAT or _is_alive(record["pid"], record["started"]):
                continue
            one = Unsaved(folder, record)
            if time.time() - record["time"] > _KEPT:
                one.discard()
            elif one.is_whole() and one.name and one.shape and record["walks"] is not None:
                found.append(one)
        except (OSError, *DAMAGED):
            continue  # something else, or cut off before it was of use
    return sorted(found, key=lambda one: -one.record["time"])


def _record_of(folder: Path) -> dict[str, Any]:
    """Read a record; what is left of a folder without one is deleted when it is too old.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if _OURS.fullmatch(folder.name) and time.time() - folder.stat().st_mtime > _KEPT:
            throw_away(folder)
        raise
    return record


def bring_back(unsaved: Unsaved, viewer: ViewerModel) -> Labels:
    """Add a Labels layer with what was lost, which knows its anchors.

    Raises
    ------
    FileError
        If it is damaged; nothing is added then.
    """
    from napari.layers import Labels

    try:
        data = _read(unsaved)
        session = _session(unsaved, data)
        given = saved_place(unsaved.record)
    except (OSError, zipfile.BadZipFile, *DAMAGED) as error:
        raise FileError(
            f"The unsaved labels of {unsaved.name!r} are damaged: discard them ({error})."
        ) from error
    labels = Labels(data, name=f"{unsaved.name} (restored)", **given)
    restore_record(labels, session)  # before anybody follows it
    return viewer.add_layer(labels)


def _is_alive(pid: int, started: float) -> bool:
    """Whether the process that wrote it is still at work, and not another of that number."""
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 1
    except psutil.Error:
        return False


def _read(unsaved: Unsaved) -> npt.NDArray[Any]:
    data: npt.NDArray[Any] = np.zeros(unsaved.shape, np.dtype(unsaved.record["dtype"]))
    if not unsaved.is_whole():
        raise FileNotFoundError("some of its files are missing")
    for file in unsaved.files():
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as planes:
            for name in planes.files:
                data[index_of(position_of(name), data.ndim)] = planes[name]
    return data


def _session(unsaved: Unsaved, data: npt.NDArray[Any]) -> dict[str, Any]:
    """Say what a saved session would say of the labels.

    What runs have found beside labels of a person, or on slices that one corrected or checked, is
    taken for the person's, too.
    """
    entries = {Walk.from_plain(entry): entry for entry in _known(unsaved)}
    records = {walk: Provenance.from_plain(entry) for walk, entry in entries.items()}
    for entry in unsaved.record["walks"]:
        walk = Walk.from_plain(entry)
        record = records.setdefault(walk, Provenance(data.shape[walk.axis]))
        for name, (sure, source, beside, corrected) in entry["slices"].items():
            k = int(name)
            record.foreign.pop(k, None)
            if beside:
                record.foreign[k] = Foreign(0)
            if k in entry["prompts"]:
                record.kind[k] = Kind.DRAWN if not record.written[k] else record.kind[k]
            else:
                record.deliver(k, np.nan if sure is None else sure, source, {})
                record.forget(k)
                if corrected:
                    record.kind[k] = Kind.CORRECTED
                if k in record.dropped:
                    record.dropped[k] = checksum(data[walk.at(k)])
        if not record.runs:
            run = {"labels": entry["labels"], "anchors": entry["prompts"]}
            record.runs.append({**run, "image": unsaved.record.get("image")})
        record.prompts.update(entry["prompts"])
    walks = []
    for walk, record in records.items():
        erased = entries.get(walk, {}).get("erased", {})
        planes = {}
        for k in np.flatnonzero(record.written).tolist():
            plane = data[walk.at(k)]
            if k in record.foreign:
                record.foreign[k] = Foreign(checksum(plane))  # what of it is ours is lost
            changed = record.checked[k] or record.kind[k] == Kind.CORRECTED
            theirs = list(ids_on(plane)) if changed or k in record.foreign else []
            planes[str(k)] = (checksum(plane), theirs, erased.get(str(k), []))
        told = {"planes": planes, "filled": entries.get(walk, {}).get("filled", {}), "shared": {}}
        walks.append({**walk.plain(), **record.plain(), **told})
    return {"shape": list(data.shape), "walks": walks}


def _known(unsaved: Unsaved) -> list[dict[str, Any]]:
    """Return what was known of the walks before the run, or at the last change after it."""
    file = unsaved.folder / unsaved.record["session"]
    walks: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["walks"]
    return walks
