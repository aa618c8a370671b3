"""Filled: what runs put onto a person's slices of objects that these say nothing of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import PromptError
from imos_core.label_ids import carries
from imos_core.through import checked_through, unrelated, where_shown
from napari_imos._walk import ids_on

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import numpy.typing as npt

    from napari_imos._record.provenance import Provenance


def filled(
    record: Provenance,
    k: int,
    plane: npt.NDArray[Any],
    left: Callable[[], npt.NDArray[Any]],
) -> set[int]:
    """Labels for which an anchor does not stand, though it may show them: runs have put them there.

    Whoever corrects one of them, or says that the slice is right, makes it an anchor of that one.

    Parameters
    ----------
    record : Provenance
        What is known of the walk.
    k : int
        Slice.
    plane : ndarray
        `(H, W)` labels that the layer holds there.
    left : callable
        Returns what runs have left there; it is costly, and hardly ever needed.
    """
    if record.checked[k]:
        return set()
    passed = _passed(record, k).difference(record.erased.get(k, ()))
    if not passed:
        return set()
    noted = left()
    return {i for i in passed if np.array_equal(plane == i, noted == i)}


def erased(record: Provenance, k: int, plane: npt.NDArray[Any], left: npt.NDArray[Any]) -> set[int]:
    """Labels that runs have put onto an anchor, and a person has taken away again.

    Parameters
    ----------
    record : Provenance
        What is known of the walk.
    k : int
        Slice.
    plane, left : ndarray
        `(H, W)` labels that the layer holds there, and what runs have left there.
    """
    known = {*ids_on(left), *record.erased.get(k, ())}
    return _passed(record, k) & known - {*ids_on(plane)}


def whole_where_alone(
    planes: dict[int, npt.NDArray[Any]], whole: Mapping[int, npt.NDArray[Any]]
) -> None:
    """Let prompts stand for what was filled in on them, too, where no other one shows it.

    Parameters
    ----------
    planes : dict of int to ndarray
        Prompt -> `(H, W)` labels that it stands for, which are changed.
    whole : mapping of int to ndarray
        Those of them that somebody names, or that serve because they are shown -> all labels on it.
    """
    shown = {i for plane in planes.values() for i in ids_on(plane)}
    for k, plane in whole.items():
        alone = carries(plane, (i for i in ids_on(plane) if i not in shown))
        planes[k] = np.where(alone, plane, planes[k])


def goes_through(
    record: Provenance,
    prompts: Mapping[int, npt.NDArray[Any]],
    ids: Collection[int],
    absent: Mapping[int, Collection[int]],
) -> dict[int, list[int]]:
    """Say which anchors say nothing of labels, so that these go through them.

    Those of objects that somebody painted alone (`unrelated`), and, for an object that is new, all
    that earlier runs know: it was not there when they were made. What comes from another time point
    is not added.

    Parameters
    ----------
    record : Provenance
        What is known of the walk.
    prompts : mapping of int to ndarray
        Anchor -> `(H, W)` labels that a person means.
    ids : collection of int
        Labels that are written.
    absent : mapping of int to collection of int
        Label -> slices where it is not.

    Returns
    -------
    dict of int to list of int
        Label -> anchors, ascending.
    """
    shown = {k: ids_on(plane) for k, plane in prompts.items()}
    alone = unrelated(shown)
    painted = {i for on in shown.values() for i in on}
    passed = {k: _passed(record, k) for k in prompts}
    known, old = set(record.ids), {k for run in record.runs for k in run["anchors"]}
    result = {}
    for label in painted.intersection(ids):
        goes = [
            k
            for k in sorted(prompts)
            if label not in shown[k] and not record.checked[k] and k not in absent.get(label, ())
            if k in alone.get(label, ())
            or label in passed[k]
            or (label not in known and (k in old or record.written[k]))
        ]
        if goes:
            result[label] = goes
    return dict(sorted(result.items()))


def given_through(
    through: Any, prompts: Mapping[int, npt.NDArray[Any]], ids: Collection[int], length: int
) -> dict[int, list[int]]:
    """Read which anchors somebody says labels go through.

    Parameters
    ----------
    through : mapping of int to iterable of int
        Label -> anchors; negative ones count from the end. None: none.
    prompts : mapping of int to ndarray
        Anchor -> `(H, W)` labels.
    ids : collection of int
        Labels that are propagated.
    length : int
        Slices of the walk.

    Returns
    -------
    dict of int to list of int
        As `goes_through` returns it.

    Raises
    ------
    PromptError
        If it is something else, or of other labels or slices.
    """
    shown = {i: where for i, where in where_shown(prompts).items() if i in ids}
    goes = checked_through(through, shown, prompts, length)
    return {label: sorted(where) for label, where in sorted(goes.items()) if where}


def refuse_in_series(options: dict[str, Any]) -> None:
    """Take `through` out of keywords for a series, where it says nothing of time points.

    Raises
    ------
    PromptError
        If it is given.
    """
    if options.pop("through", None) is not None:
        raise PromptError("Through is for one volume: leave it out with series.")


def facts_of(goes: Mapping[int, Collection[int]]) -> dict[str, Any]:
    """Return what the record of a run says of it: anchor -> labels, as JSON would hold it."""
    found = {str(k): labels for k, labels in by_anchor(goes).items()}
    return {"through": found} if found else {}


def by_anchor(goes: Mapping[int, Collection[int]]) -> dict[int, list[int]]:
    """Turn it round: anchor -> labels that go through it, both ascending."""
    slices = sorted({k for where in goes.values() for k in where})
    return {k: sorted(i for i, where in goes.items() if k in where) for k in slices}


def went_through(run: Mapping[str, Any], k: int, label: int) -> bool:
    """Whether a run, as its facts say, has let a label go through an anchor."""
    return label in run.get("through", {}).get(str(k), ())


def note_corrected(record: Provenance, k: int, but: Collection[int]) -> None:
    """Note that an anchor stands for labels that went through it, `but` for some.

    Where a person has corrected them is not seen any more once what runs left is not known.
    """
    for run in record.runs:
        if through := run.get("through"):
            labels = [i for i in through.get(str(k), ()) if i in but]
            run["through"] = {**through, str(k): labels}


def _passed(record: Provenance, k: int) -> set[int]:
    """Labels that runs have let go through an anchor."""
    return {i for run in record.runs for i in run.get("through", {}).get(str(k), ())}
