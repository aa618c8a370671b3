"""Session: a JSON beside saved labels that knows what every slice is, to go on another day."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError
from imos_core.file_identity import identity
from imos_core.files.sidecar import (
    DAMAGED,
    FORMAT,
    has_sidecar,
    labels_of,
    read_sidecar,
    sidecar_of,
)
from imos_core.label_ids import carries
from imos_core.whole_files import swapped_in
from napari_imos._layers import absent_on
from napari_imos._placed import PLACED, placed, saved_place
from napari_imos._placement import lies_nowhere, steps_of
from napari_imos._record.filled import erased, note_corrected
from napari_imos._record.ledger import Ledger
from napari_imos._record.provenance import Kind, Provenance, checksum
from napari_imos._saved.masks import packed, unpacked
from napari_imos._saved.same_voxels import volume_like
from napari_imos._walk import Walk, axis_names, ids_on, is_time

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    from napari.layers import Labels

    from imos_core.formats.volume import Interval, Volume

METADATA = "imos"
"""Key of a layer's metadata under which the same record stands, as plain values."""


def _place(labels: Labels, record: Mapping[str, Any]) -> None:
    """Let a layer whose file did not say where it lies do so where it lay when it was saved."""
    where = saved_place(record)
    if lost := [name for name in PLACED if name not in where]:
        raise ValueError(f"it has no usable {lost[0]}")
    if axis_names(labels) == [f"axis {a}" for a in range(labels.ndim)]:
        labels.axis_labels = tuple(where["axis_labels"])
    if lies_nowhere(labels) and np.allclose(labels.scale, 1):
        where.pop("axis_labels", None)
        for name, value in where.items():
            setattr(labels, name, value)


def describe(labels: Labels, *, planes: bool = False) -> dict[str, Any]:
    """Return what is known of a layer's slices, as JSON would hold it.

    Parameters
    ----------
    labels : Labels
        Layer.
    planes : bool
        Also checksums of the slices, by which they are known again.

    Returns
    -------
    dict
        ``walks``: one entry per walked axis with ``axis``, ``fixed``, ``anchors`` and the record
        of `Provenance.plain`.
    """
    ledger = Ledger.of(labels)
    ledger.settle(labels)  # what Ctrl+Z took back must not be saved as done
    walks = []
    for walk, record in ledger.records.items():
        entry = {
            "ndim": walk.ndim,
            "axis": walk.axis,
            "fixed": [list(pair) for pair in walk.fixed],
            "anchors": (ledger.anchors if planes else ledger.known_anchors)(labels, walk),
            **record.plain(),
            "prompts": ledger.prompts(labels, walk),
        }
        if planes:
            entry["planes"] = _planes(labels, walk, record, ledger)
            entry["shared"] = _shared(labels, walk, record, ledger)
            entry["filled"] = filled_on_anchors(labels, walk, entry["anchors"], ledger)
            absent = absent_on(labels, walk, entry["anchors"], set(record.ids), ledger)
            entry["absent"] = {str(label): slices for label, slices in absent.items()}
        walks.append(entry)
    return {"format": FORMAT, "version": 1, "walks": walks}


def save_session(labels: Labels, path: str | os.PathLike[str], images: Sequence[str] = ()) -> Path:
    """Save labels, and beside them what every slice is.

    Labels that lie in that very file, memory-mapped or as a Zarr array, stay where they are. Into
    NIfTI goes where in the patient they lie, if the file of the labels or of their image says it.

    Parameters
    ----------
    labels : Labels
        Layer.
    path : str or path
        ``.tif``, ``.nii.gz``, ``.zarr``, ``.npy``: as `imos_core.io.write_labels`. Labels with
        four axes go into ``.tif``, ``.zarr`` or ``.npy``.
    images : sequence of str
        Files of images that are open beside it, in case no run has noted that of its own.

    Returns
    -------
    Path
        The session file.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    from imos_core.io import write_labels

    path = labels_of(path)
    if _lies_in(labels.data, path):
        return save_sidecar(labels, path)
    data = np.asarray(labels.data)
    suffix = path.suffix.lower()
    series = data.ndim == 4 and suffix in (".tif", ".tiff", ".zarr")
    if data.ndim != 3 and not series and suffix != ".npy":
        suffixes = ".tif, .zarr or .npy" if data.ndim == 4 else ".npy"
        raise FileError(
            f"Labels with {data.ndim} axes are saved as {suffixes}: choose such a name."
        )
    like = volume_like(labels, data, path, images) if data.ndim == 3 else None
    write_labels(path, data, like or _as_volume(labels, data))
    return save_sidecar(labels, path)


def _as_volume(labels: Labels, data: npt.NDArray[Any]) -> Volume:
    """Return what a layer, and the file of its image, tell a file of its labels."""
    from imos_core.formats.units import length_unit
    from imos_core.formats.volume import Volume, usable

    film = data.ndim == 3 and is_time(labels, 0)
    units = {str(unit) for unit in labels.units[-2 if film else -3 :]}
    unit = length_unit(units.pop()) if len(units) == 1 else None
    timed = film or (data.ndim == 4 and is_time(labels, 0))
    interval = _interval(labels) if timed else None
    translation = [float(t) for t in labels.data_to_world((0,) * labels.ndim)[-3:]]
    if film:
        # the layer counts it in steps, or as long as these are
        translation[0] *= interval[0] / float(labels.scale[0]) if interval else 1.0
    extra = {"translation": translation}
    spacing = usable(steps_of(labels)[-3:])
    return Volume(data, spacing, unit=unit, extra=extra, film=film, interval=interval)


def _interval(labels: Labels) -> Interval | None:
    """Time from one step to the next: readers that count it in steps leave it to the image's file.

    Of ``.gz`` it is not looked at, as that would decompress all of the file.
    """
    from imos_core.formats.units import converted, time_unit
    from imos_core.formats.volume import usable_interval
    from imos_core.io import read_volume

    clock = time_unit(str(labels.units[0]))
    if converted(1.0, clock, "second") is not None:
        return usable_interval(abs(labels.scale[0]), clock)
    runs = [run for record in Ledger.of(labels).records.values() for run in record.runs]
    images = [str(run.get("image_path") or "") for run in reversed(runs)]
    image = next((path for path in images if path and not path.endswith(".gz")), None)
    try:
        return read_volume(image, series=True).interval if image else None
    except FileError:
        return None  # it may be gone since


def _lies_in(data: Any, path: Path) -> bool:
    """Whether an array is what a file holds, so that writing to one changes the other.

    Raises
    ------
    FileError
        If the file holds more than that.
    """
    if isinstance(data, np.memmap) and data.filename is not None and data.mode != "c":
        file = Path(data.filename)
    elif isinstance(root := getattr(getattr(data, "store", None), "root", None), Path):
        file = root / data.path
    else:
        return False
    if identity(file) != identity(path):
        return False
    if isinstance(data, np.memmap):
        whole = data
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        if whole.size != data.size:
            raise FileError(
                f"{path.name} holds more than these labels, which are a part of it and are saved "
                "there already: choose another name."
            )
        data.flush()
    return True


def save_sidecar(labels: Labels, path: str | os.PathLike[str]) -> Path:
    """Write only the session file, for labels that are saved already.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    from imos_core.files.image_marks import image_marks

    target = sidecar_of(path)
    record = describe(labels, planes=True)
    record["labels"] = labels_of(target).name
    record["shape"] = list(labels.data.shape)
    record["images"] = image_marks(record["walks"])
    record.update(placed(labels))
    try:
        with swapped_in(target) as partial:
            partial.write_text(json.dumps(record), encoding="utf-8")
    except FileError as error:
        raise FileError(
            f"The labels are saved, but what every slice is, is not: {error}"
        ) from error
    return target


def taken_over(labels: Labels) -> str:
    """Restore the session beside the file that labels were opened from, unless more is known.

    Returns
    -------
    str
        What was taken over; empty if there is nothing.

    Raises
    ------
    FileError
        If the session does not serve.
    """
    path = labels.source.path
    # whoever has forgotten the runs of a layer does not want those of its file
    known = Ledger.of(labels).records or METADATA in labels.metadata
    if path is None or known or not has_sidecar(path):
        return ""
    try:
        changed = restore(labels, path)
    except FileError as error:
        way = f"To begin without it, move {sidecar_of(path).name} away"
        raise FileError(f"{error} {way}.") from error
    since = f"; {changed} slices have been changed since" if changed else ""
    return f"Took over {sidecar_of(path).name}{since}."


def restore(labels: Labels, path: str | os.PathLike[str]) -> int:
    """Let a layer know again what its slices are.

    Slices that are not as they were saved count as corrected. Where its file says nothing of it,
    the layer lies where it lay.

    Parameters
    ----------
    labels : Labels
        The reopened layer.
    path : str or path
        The session, or the labels file beside it.

    Returns
    -------
    int
        How many slices have been changed since.

    Raises
    ------
    FileError
        If the session does not serve.
    """
    record = read_sidecar(path)
    if list(labels.data.shape) != record.get("shape"):
        raise FileError(
            f"The session is of labels with shape {tuple(record.get('shape') or ())}, but the "
            f"layer has {tuple(labels.data.shape)}: open the labels that were saved with it."
        )
    try:
        _place(labels, record)
        return restore_record(labels, record)
    except DAMAGED as error:
        raise FileError(f"{sidecar_of(path)} is damaged: {error}.") from error


def restore_record(labels: Labels, record: Mapping[str, Any]) -> int:
    """Do as `restore`, from what the session says.

    Raises
    ------
    Exception
        If it is damaged: one of `imos_core.files.sidecar.DAMAGED`.
    """
    ledger, changed = Ledger(), 0
    for entry in record["walks"]:
        changed += _restore_walk(labels, ledger, entry)
    ledger.keep(labels)
    for walk in ledger.records:
        for _ in ledger.examine_all(labels, walk):
            pass
    labels.metadata[METADATA] = describe(labels)
    return changed


def _restore_walk(labels: Labels, ledger: Ledger, entry: dict[str, Any]) -> int:
    walk = Walk.from_plain(entry)
    record = Provenance.from_plain(entry)
    data: Any = labels.data
    if record.length != data.shape[walk.axis]:
        raise ValueError(f"{record.length} slices along axis {walk.axis}")
    ledger.restore(walk, record)
    changed, shared = 0, entry["shared"]
    for name, (saved, theirs, gone) in entry["planes"].items():
        k = int(name)
        plane = np.asarray(data[walk.at(k)])
        if checksum(plane) != saved:
            changed += 1
            record.checked[k] = False
            continue
        if record.kind[k] == Kind.CORRECTED:
            record.erased[k] = [int(i) for i in gone]
            if k in entry.get("anchors", ()):  # after a crash, nobody knows them
                _, filled, taken = entry["filled"].get(name, (saved, (), ()))
                note_corrected(record, k, but={*filled, *taken})
        # what is theirs here may be ours on a walk along another axis
        ours = ~carries(plane, theirs)
        if name in shared:
            ours |= unpacked(shared[name], plane.shape)
        ledger.adopt(walk, k, plane, data.shape, ours)
    for name, (saved, labels_there, gone) in entry["filled"].items():
        k = int(name)
        plane = np.asarray(data[walk.at(k)])
        if checksum(plane) == saved:
            ledger.adopt(walk, k, plane, data.shape, carries(plane, labels_there))
            if gone:
                record.erased[k] = sorted({int(i) for i in gone}.union(record.erased.get(k, ())))
    return changed


def filled_on_anchors(
    labels: Labels, walk: Walk, anchors: Iterable[int], ledger: Ledger
) -> dict[str, tuple[int, list[int], list[int]]]:
    """Of every anchor that labels went through: checksum, these labels, and those erased again."""
    data: Any = labels.data
    record, result = ledger.records[walk], {}
    for k in anchors:
        plane = np.asarray(data[walk.at(k)])
        there = ledger.filled(walk, k, plane)
        gone = erased(record, k, plane, ledger.noted(walk.at(k), plane))
        if there or gone:
            result[str(k)] = (checksum(plane), sorted(there), sorted(gone))
    return result


def _planes(
    labels: Labels, walk: Walk, record: Provenance, ledger: Ledger
) -> dict[str, tuple[int, list[int], list[int]]]:
    """Of every slice that a run delivered: checksum, labels that a person painted, and erased."""
    data: Any = labels.data
    result = {}
    for k in np.flatnonzero(record.written):
        plane = np.asarray(data[walk.at(int(k))])
        painted = (plane != 0) & ~ledger.ours(walk.at(int(k)), plane)
        theirs = list(ids_on(plane[painted]))
        gone = sorted(ledger.absent(labels, walk, int(k)))
        result[str(k)] = (checksum(plane), theirs, gone)
    return result


def _shared(labels: Labels, walk: Walk, record: Provenance, ledger: Ledger) -> dict[str, str]:
    """Of every slice on which a label is a person's in part only: which of its voxels are ours."""
    data: Any = labels.data
    result = {}
    for k in np.flatnonzero(record.written).tolist():
        plane = np.asarray(data[walk.at(k)])
        ours = ledger.ours(walk.at(k), plane)
        ours &= carries(plane, ids_on(plane[~ours]))
        if ours.any():
            result[str(k)] = packed(ours)
    return result
