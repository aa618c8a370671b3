"""Through: painted slices that say nothing of a label, so that it goes through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import PromptError
from imos_core.label_ids import ids_on
from imos_core.whole_numbers import whole, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy.typing as npt


def checked_through(
    through: Any, shown: Mapping[int, Collection[int]], painted: Collection[int], length: int
) -> dict[int, frozenset[int]]:
    """Check which painted slices somebody says that labels go through.

    Parameters
    ----------
    through : mapping of int to iterable of int, optional
        Label -> painted slices that say nothing of it; negative ones count from the end.
    shown : mapping of int to collection of int
        Label that may go through slices -> those on which it is painted.
    painted : collection of int
        Painted slices.
    length : int
        Slices in the sequence.

    Returns
    -------
    dict of int to frozenset of int
        The same, from 0 up.

    Raises
    ------
    PromptError
        If it is no mapping, one of its labels or slices is none of these, or all slices on which
        one of its labels is painted say nothing of it.
    """
    if through is not None and not isinstance(through, Mapping):
        raise PromptError(
            f"Through is painted slices by label, as in {{3: [45]}}, not {type(through).__name__}."
        )
    passed: dict[int, frozenset[int]] = {}
    for given, where in (through or {}).items():
        label = whole(given, "Each label of through")
        if label not in shown:
            raise PromptError(
                f"Label {label} cannot go through slices, as it is not painted or not propagated: "
                f"choose from {sorted(shown)}."
            )
        named = sorted(whole_numbers(where, "slices in through"))
        chosen = {k: k % length if -length <= k < 0 else k for k in named}
        if other := [k for k in named if chosen[k] not in painted]:
            raise PromptError(
                f"Label {label} goes through painted slices only: slice {other[0]} is none of "
                f"{sorted(painted)}."
            )
        passed[label] = frozenset(chosen.values())
        if passed[label].issuperset(held := shown[label]):
            slices = f"slice{'s' * (len(held) > 1)} {', '.join(map(str, sorted(held)))}"
            raise PromptError(
                f"Label {label} is painted on {slices} only, and through takes it out "
                "there: leave one slice on which it is painted out of through."
            )
    return passed


def unrelated(slices: Mapping[int, Collection[int]]) -> dict[int, list[int]]:
    """Say which painted slices say nothing of labels: those of objects that somebody painted alone.

    Who paints each object on the slice that shows it best leaves it out on those of the others. Who
    paints all objects of several slices has left out where it is not; such slices share objects.

    Parameters
    ----------
    slices : mapping of int to collection of int
        Painted slice -> labels on it.

    Returns
    -------
    dict of int to list of int
        Label -> painted slices, ascending, without any label that stands on a slice beside it.
    """
    beside: dict[int, set[int]] = {}
    for labels in slices.values():
        for label in labels:
            beside.setdefault(int(label), set()).update(map(int, labels))
    found = {
        label: sorted(k for k, labels in slices.items() if len(labels) and known.isdisjoint(labels))
        for label, known in beside.items()
    }
    return {label: where for label, where in found.items() if where}


def through_of_painted(
    through: Mapping[int, Iterable[int]], slices: Mapping[int, npt.NDArray[Any]]
) -> dict[int, list[int]]:
    """Return what is said of labels that have an anchor beside; a record may know of others.

    Parameters
    ----------
    through : mapping of int to iterable of int
        Label -> painted slices that say nothing of it.
    slices : mapping of int to ndarray
        Painted slices.
    """
    showing = where_shown(slices) if through else {}
    found = {
        label: [k for k in where if k in slices]
        for label, where in through.items()
        if showing.get(label, set()).difference(where)
    }
    return {label: where for label, where in found.items() if where}


def without_through(
    slices: Mapping[int, npt.NDArray[Any]], through: Mapping[int, Collection[int]]
) -> dict[int, npt.NDArray[Any]]:
    """Return painted slices without the labels of which they say nothing.

    Parameters
    ----------
    slices : mapping of int to ndarray
        Painted slice -> `(H, W)` labels, which stay as they are.
    through : mapping of int to collection of int
        Label -> painted slices that say nothing of it.
    """
    found = dict(slices)
    for label, where in through.items():
        for k in found.keys() & where:
            found[k] = np.where(found[k] == label, 0, found[k]).astype(found[k].dtype)
    return found


def through_unshown(
    through: Mapping[int, Iterable[int]], slices: Mapping[int, npt.NDArray[Any]]
) -> dict[int, list[int]]:
    """Return which of some prompts say nothing of labels: those that show one say something.

    Parameters
    ----------
    through : mapping of int to iterable of int
        Label -> painted slices that say nothing of it; labels that are on no prompt do not matter.
    slices : mapping of int to ndarray
        Prompts: of a series, these may have been carried there.
    """
    showing = where_shown(slices) if through else {}
    found = {
        label: [k for k in where if k in slices and k not in showing[label]]
        for label, where in through.items()
        if label in showing
    }
    return {label: where for label, where in found.items() if where}


def where_shown(slices: Mapping[int, npt.NDArray[Any]]) -> dict[int, set[int]]:
    """Say on which slices each label is.

    Parameters
    ----------
    slices : mapping of int to ndarray
        Slice -> `(H, W)` labels.
    """
    found: dict[int, set[int]] = {}
    for k, plane in slices.items():
        for label in ids_on(plane):
            found.setdefault(label, set()).add(k)
    return found
