"""Saved jobs: what a sidecar says of how its labels were made, by which they are made anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imos_core.arrays.on_grid import Grid
from imos_core.arrays.painted import Painted
from imos_core.errors import FileError, PromptError
from imos_core.files.image_marks import image_differs
from imos_core.files.model_checksum import model_checksum
from imos_core.files.propagate import FileJob
from imos_core.files.series import FileSeries
from imos_core.files.sidecar import DAMAGED, labels_of, read_sidecar, sidecar_of
from imos_core.formats.volume import names_time
from imos_core.io import read_labels
from imos_core.paths import check_path
from imos_core.through import where_shown

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from imos_core.formats.volume import Place

_DEFAULT = "imos-compact"
_KINDS = {0: "time point", 1: "slice"}
_OPTIONS = {0: "--time", 1: "--plane"}


def job_from(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    image: str | os.PathLike[str] | None = None,
    axis: int | None = None,
    time: int | None = None,
    plane: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> FileJob:
    """Make the job that makes saved labels anew from their anchors, all at once.

    Parameters
    ----------
    path : str or path
        The sidecar, or the labels file beside it.
    output : str or path
        Where the result goes.
    image : str or path, optional
        Image; by default the file that was open when the labels were made.
    axis : int, optional
        Walked axis of the labels, where the record knows several.
    time : int, optional
        Time point, where the record of labels with four axes knows several.
    plane : int, optional
        Slice of the volumes that was propagated through time, where the record knows several.
    options : mapping, optional
        Keywords of `imos_core.propagate` that go before those of the record.

    Returns
    -------
    FileJob
        For `imos_core.files.propagate.propagate_files`.

    Raises
    ------
    FileError, PromptError
        If the record does not suffice; the sentence says what is missing.
    """
    file, record = sidecar_of(path), read_sidecar(path)
    try:
        walk = _walk(record, axis, {0: time, 1: plane})
        job = _job(path, record, walk, [walk], output, image, options)
        anchors, absent, through = _anchors(walk), _absent(walk), _through(walk)
    except DAMAGED as error:
        raise FileError(f"{file} is damaged: {error!r}.") from error
    if not anchors:
        raise PromptError(f"{file} knows no anchor: paint a slice and save the session again.")
    job = _placed(path, job)
    job = replace(job, time=_place(walk), anchors=anchors, absent=absent, through=through)
    return replace(job, labels=_still_painted(job))


def series_from(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    image: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> FileSeries | None:
    """Make the whole series anew that saved labels are, if they are one; see `job_from`.

    Returns
    -------
    FileSeries or None
        For `imos_core.files.series.propagate_series_files`; None if no series was propagated last.
    """
    file, record = sidecar_of(path), read_sidecar(path)
    try:
        lasts = [w["runs"][-1] for w in record["walks"] if w["runs"]]
        facts = [run["series"] for run in lasts if run.get("series")]
        if len(record["shape"]) != 4 or not facts:
            return None
        along, main = int(facts[-1]["axis"]), int(facts[-1]["start"])
        walks = {
            _fixed(w)[1]: w
            for w in record["walks"]
            if len(w["fixed"]) == 1 and _fixed(w)[0] == along
        }
        first = walks[main]
        walks = {t: w for t, w in walks.items() if w["axis"] == first["axis"]}
        ran = [w for w in walks.values() if w["runs"]]
        job = _job(path, record, first if first["runs"] else ran[-1], ran, output, image, options)
        anchors = {t: _anchors(w) for t, w in walks.items()}
        absent = {t: _absent(w) for t, w in walks.items()}
        through = {t: _through(w) for t, w in walks.items()}
        volumes = {t for t, w in walks.items() if _came_painted(w)}
    except DAMAGED as error:
        raise FileError(f"{file} is damaged: {error!r}.") from error
    job = _placed(path, job)
    painted = {t: slices for t, slices in anchors.items() if slices}
    return FileSeries(job, main, along, painted, volumes, absent, through)


def model_differs(path: str | os.PathLike[str], job: FileJob) -> bool:
    """Whether a job's model is not the one, to the byte, that made the labels; False if unknown.

    Parameters
    ----------
    path : str or path
        The sidecar.
    job : FileJob
        As from `job_from`.
    """
    record = read_sidecar(path)
    walks = [
        w
        for w in record["walks"]
        if _place(w) == job.time and _kept(record, w)[job.axis] == int(w["axis"])
    ]
    # runs that took labels away only did without a model
    known = [run["sha256"] for walk in walks for run in walk.get("runs", ()) if run.get("sha256")]
    now = model_checksum(job.options.get("model", _DEFAULT))
    return bool(known and now and known[-1] != now)


def _job(
    path: str | os.PathLike[str],
    record: Mapping[str, Any],
    walk: Mapping[str, Any],
    walks: Sequence[Mapping[str, Any]],
    output: str | os.PathLike[str],
    image: str | os.PathLike[str] | None,
    options: Mapping[str, Any] | None,
) -> FileJob:
    """What the last run of a walk, and all runs of several, say of the job; without anchors."""
    file, runs = sidecar_of(path), [run for one in walks for run in one["runs"]]
    last = walk["runs"][-1]
    ranges = [(int(a), int(b)) for run in runs for a, b in run["ranges"]]
    where = image or last.get("image_path") or None
    if last.get("elsewhere") and not last.get("grid"):
        raise PromptError(
            "The image has other voxels than the labels, in a way that only napari can bring "
            "together: resample the image to the labels, and propagate with imos propagate."
        )
    if where is None:
        raise FileError(f"{file} does not know where its image is: name it after the session.")
    kept = _kept(record, walk)
    scale = [abs(float(record["scale"][a])) for a in kept]
    return FileJob(
        image=Path(where),
        painted=_painted(Path(path), file.with_name(record["labels"])),
        output=Path(output),
        channels=_channels(last),
        grid=Grid.from_plain(last["grid"]) if last.get("grid") else None,
        session=True,
        axis=kept.index(int(walk["axis"])),
        labels=sorted({int(i) for run in runs for i in run["labels"]}),
        start=min(a for a, _ in ranges),
        stop=max(b for _, b in ranges),
        stop_when_gone=bool(last.get("stop_when_gone")),
        spacing=(scale[0], scale[1], scale[2]),
        frames=_is_time(record, kept[0]),
        options={**_keywords(last), **(options or {})},
    )


def _painted(path: Path, recorded: Path) -> Path:
    """Labels that a person means: those that they name, or that the record they name is about."""
    if path != sidecar_of(path):
        return path
    return recorded if check_path(recorded).exists() else labels_of(path)


def _placed(path: str | os.PathLike[str], job: FileJob) -> FileJob:
    """Say where labels lie, of files that are there.

    napari showed it of the image that was open, and knew no affine of these files. What another
    one holds, nobody has seen beside them.
    """
    _check_files(job)
    return replace(job, by_index=not image_differs(path, job))


def _check_files(job: FileJob) -> None:
    if not job.image.exists():
        raise FileError(f"The image {job.image} does not exist: name it after the session.")
    if not job.painted.exists():
        raise FileError(f"The labels {job.painted} are gone: put them beside their session.")


def _anchors(walk: Mapping[str, Any]) -> list[int]:
    return [int(k) for k in walk["anchors"]]


def _absent(walk: Mapping[str, Any]) -> dict[int, list[int]]:
    return {int(i): [int(k) for k in ks] for i, ks in walk.get("absent", {}).items()}


def _through(walk: Mapping[str, Any]) -> dict[int, list[int]]:
    """Label -> anchors onto which it was filled in, which says nothing of it."""
    found: dict[int, list[int]] = {}
    for k, (_, labels, *_) in walk.get("filled", {}).items():
        for label in labels:
            found.setdefault(int(label), []).append(int(k))
    return found


def _came_painted(walk: Mapping[str, Any]) -> bool:
    """Whether slices that no brush has touched came labelled: a volume, taken as it is."""
    drawn = {k for k, kind in enumerate(walk["kind"]) if kind == "drawn"}
    return bool(drawn - set(_anchors(walk)) - {int(k) for k in walk["dropped"]})


def _walk(
    record: Mapping[str, Any], axis: int | None, wanted: Mapping[int, int | None]
) -> Mapping[str, Any]:
    """Choose the walk that is run again, by its axis and by where it stays."""
    axes = len(record["shape"])
    if axes not in (3, 4):
        raise PromptError(f"Labels with {axes} axes cannot be run again: save three or four.")
    walks = _some(
        (w for w in record["walks"] if w["runs"]),
        "Nothing was propagated in this session: use imos propagate.",
    )
    if axes == 4:
        # what goes through all of time and space is no volume that could be read
        walks = _some(
            (w for w in walks if len(w["fixed"]) == 1),
            "What was propagated in this session is no time point, and no slice through time: "
            "use imos propagate.",
        )
    for held, place in wanted.items():
        if place is None:
            continue
        if axes == 3:
            raise PromptError(f"These labels have three axes: leave {_OPTIONS[held]} out.")
        walks = _some(
            (w for w in walks if _fixed(w) == (held, place)),
            f"Nothing was propagated at {_KINDS[held]} {place}: leave {_OPTIONS[held]} out.",
        )
    if axis is not None:
        walks = _some(
            (w for w in walks if int(w["axis"]) == axis),
            f"Nothing was propagated along axis {axis}: leave --axis out.",
        )
    if len(walks) > 1:
        several = "; ".join(_words(w, axes) for w in walks)
        options = "--axis" if axes == 3 else "--time, --plane or --axis"
        raise PromptError(f"Several were propagated ({several}): choose one with {options}.")
    return walks[0]


def _some(walks: Iterable[Mapping[str, Any]], missing: str) -> list[Mapping[str, Any]]:
    """Return walks as a list, or say what is missing if there are none."""
    found = list(walks)
    if not found:
        raise PromptError(missing)
    return found


def _words(walk: Mapping[str, Any], axes: int) -> str:
    along = f"axis {walk['axis']}"
    if axes == 3:
        return along
    held, place = _fixed(walk)
    return f"{along} at {_KINDS.get(held, f'axis {held},')} {place}"


def _fixed(walk: Mapping[str, Any]) -> tuple[int, int]:
    """Axis of four on which a walk stays, and where."""
    ((axis, place),) = walk["fixed"]
    return int(axis), int(place)


def _place(walk: Mapping[str, Any]) -> Place | None:
    """Where a walk stays, as `read_volume` is told; None of labels with three axes."""
    if len(walk["fixed"]) != 1:
        return None
    axis, place = _fixed(walk)
    return (axis, place) if axis else place


def _kept(record: Mapping[str, Any], walk: Mapping[str, Any]) -> list[int]:
    """Axes of the labels that a walk does not stay on, ascending."""
    held = {int(a) for a, _ in walk["fixed"]}
    return [a for a in range(len(record["shape"])) if a not in held]


def _is_time(record: Mapping[str, Any], axis: int) -> bool:
    names = record["axis_labels"]
    return axis < len(names) and names_time(str(names[axis]))


def _channels(run: Mapping[str, Any]) -> list[int] | None:
    """Channels of the image that a run looked at; None: all of it."""
    names = [name.strip() for name in str(run.get("channels") or "").split(",") if name.strip()]
    if all(name.removeprefix("-").isdecimal() for name in names):
        return [int(name) for name in names] or None
    raise PromptError(
        f"The labels were made from several images ({', '.join(names)}): save these as one image "
        "with channels, and propagate through it (imos propagate --channels)."
    )


def _still_painted(job: FileJob) -> list[int]:
    """Labels of a job that its anchors show: a person may have erased one everywhere."""
    array = read_labels(job.painted, job.time).array
    erased = {k for slices in job.absent.values() for k in slices}
    planes = Painted(array, array.shape, job.axis, job.anchors, erased).prompts()
    shown = where_shown(planes)
    return [i for i in job.labels or () if shown.get(i, set()).difference(job.through.get(i, ()))]


def _keywords(run: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `imos_core.propagate` that a run was made with."""
    keywords: dict[str, Any] = {"model": run.get("model") or _DEFAULT}
    if run.get("adapter"):
        keywords["adapter"] = run["adapter"]
    for name in ("direction", "window", "precision"):
        if run.get(name):
            keywords[name] = run[name]
    if run.get("contrast"):
        low, high = run["contrast"]
        keywords["contrast"] = (float(low), float(high))
    return keywords
