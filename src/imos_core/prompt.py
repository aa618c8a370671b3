"""Prompts: painted slices checked, and turned into label ids and anchors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from imos_core.errors import PromptError
from imos_core.through import checked_through, where_shown, without_through
from imos_core.whole_numbers import whole, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy.typing as npt


@dataclass(frozen=True)
class Prompts:
    """Painted slices and what is painted on them."""

    slices: Mapping[int, npt.NDArray[Any]]
    """Slice index -> `(H, W)` integer labels, as painted."""
    anchors: Mapping[int, tuple[int, ...]]
    """Label id -> slices on which it is painted, ascending."""
    dtype: np.dtype[Any]
    """Type of the labels that were given, in this machine's byte order."""
    through: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """Label id -> painted slices that say nothing of it, through which it goes."""
    empty: tuple[int, ...] = ()
    """Slices on which nothing was painted at all."""

    @cached_property
    def result_dtype(self) -> np.dtype[Any]:
        """Type of the result: as given, if there was a single one."""
        types = {plane.dtype for plane in self.slices.values()}
        return types.pop() if len(types) == 1 else self.dtype

    @property
    def showing(self) -> frozenset[int]:
        """Slices that show a label that was asked for."""
        return frozenset(k for slices in self.anchors.values() for k in slices)


def read_prompts(
    prompts: Mapping[Any, npt.ArrayLike],
    length: int,
    plane_shape: tuple[int, ...],
    labels: SupportsIndex | Iterable[SupportsIndex] | None = None,
    through: Mapping[Any, Iterable[SupportsIndex]] | None = None,
) -> Prompts:
    """Check painted slices.

    Parameters
    ----------
    prompts : mapping of int to array-like
        Slice index -> `(H, W)` integer or boolean labels; what numpy masks is not painted.
    length : int
        Slices in the sequence.
    plane_shape : tuple of int
        Height and width of a slice.
    labels : int or iterable of int, optional
        Only these ids are propagated.
    through : mapping of int to iterable of int, optional
        Label -> painted slices that say nothing of it; what they show of it does not count.

    Returns
    -------
    Prompts
        Checked copies. Slices that show labels, but none that is propagated, say nothing of any.

    Raises
    ------
    PromptError
        If there is nothing to propagate, or a slice does not fit the image.
    """
    if not isinstance(prompts, Mapping):
        raise PromptError(
            "Prompts are painted slices by their number, as in {12: labels[12]}, not "
            f"{type(prompts).__name__}."
        )
    if not prompts:
        raise PromptError("No prompt was given: paint at least one slice.")
    slices: dict[int, npt.NDArray[Any]] = {}
    for index, given in prompts.items():
        index = whole(index, "The number of a prompt slice")
        (k,) = inside([index], length)
        if k in slices:
            raise PromptError(
                f"The prompt slice {k} was given twice, as {k} and {k - length}: give it once."
            )
        slices[k] = _checked_plane(given, index, tuple(plane_shape))
    empty = tuple(k for k, plane in slices.items() if not plane.any())
    shown = where_shown(slices)
    passed = checked_through(through, shown, slices, length)
    slices = without_through(slices, passed)
    wanted = None if labels is None else set(whole_numbers(labels, "labels"))
    shown = where_shown(slices) if passed else shown
    anchors = {
        label: sorted(where) for label, where in shown.items() if wanted is None or label in wanted
    }
    if not any(plane.any() for plane in slices.values()):
        which = f"slice {next(iter(slices))}" if len(slices) == 1 else "every prompt slice"
        raise PromptError(f"Nothing is painted on {which}: paint the object there first.")
    if wanted is not None and (missing := sorted(wanted - set(anchors))):
        raise PromptError(
            f"Label {missing[0]} is not painted on any prompt slice: "
            f"choose from {_painted(slices)}."
        )
    dtype = np.result_type(*(p.dtype for p in slices.values()))
    if dtype.kind == "f":
        # numpy knows no integers that hold all of uint64 and int64, but no label is negative
        dtype = np.dtype(np.uint64)
    showing = {k for where in anchors.values() for k in where}
    others = frozenset(slices).difference(showing, empty)
    goes = {i: others.union(passed.get(i, ())) for i in anchors if others or i in passed}
    return Prompts(slices, {k: tuple(v) for k, v in sorted(anchors.items())}, dtype, goes, empty)


def _checked_plane(given: Any, index: int, plane_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return a copy of a painted slice.

    Raises
    ------
    PromptError
        If it holds no labels, or does not fit the image.
    """
    plane = np.array(np.asarray(without_mask(given)))  # tensors know no copies in one go
    if plane.dtype.kind not in "bui":
        raise PromptError(
            f"Labels must be integers, but prompt slice {index} holds {plane.dtype} values: "
            "convert it with .astype(int)."
        )
    if plane.shape != plane_shape:
        raise PromptError(
            f"The prompt slice {index} has shape {plane.shape}, but the image's slices have "
            f"shape {plane_shape}: paint on a layer of the image's shape."
        )
    if plane.dtype.kind == "i" and plane.min() < 0:
        raise PromptError(f"The prompt slice {index} holds negative labels: use ids from 1 up.")
    return plane


def inside(slices: Iterable[Any], length: int) -> tuple[int, ...]:
    """Check slices that were asked for; negative ones count from the end.

    Parameters
    ----------
    slices : iterable of int
        What was given.
    length : int
        Slices in the sequence.

    Returns
    -------
    tuple of int
        Each once, from 0 up.

    Raises
    ------
    PromptError
        If the image has no such slice.
    """
    given = [int(k) for k in slices]
    for k in given:
        if not -length <= k < length:
            raise PromptError(
                f"The prompt slice {k} is outside the image, which has slices 0 to {length - 1}."
            )
    return tuple(dict.fromkeys(k % length for k in given))


def joined_ends(
    known: Mapping[int, Iterable[int]], given: Mapping[int, Iterable[int]] | None
) -> Mapping[int, Iterable[int]]:
    """Put together where labels have ended by what was painted, and by what somebody gives.

    Parameters
    ----------
    known : mapping of int to iterable of int
        Label -> slices where it is not.
    given : mapping of int to iterable of int, optional
        The same, as `propagate` takes it.

    Raises
    ------
    PromptError
        If what is given is something else.
    """
    _refuse_other_ends(given)
    joined = {label: [*slices] for label, slices in known.items()}
    for label, slices in (given or {}).items():
        joined.setdefault(label, []).extend(whole_numbers(slices, "slices in ends"))
    return joined


def check_ends(ends: Any, painted: Collection[int]) -> None:
    """Check which labels are said to have ended.

    Parameters
    ----------
    ends : Any
        As `propagate` takes it.
    painted : collection of int
        All labels that are painted, in a series at any time point.

    Raises
    ------
    PromptError
        If it is no mapping, or one of its labels is not painted.
    """
    _refuse_other_ends(ends)
    for given in ends or ():
        if (label := whole(given, "Each label of ends")) not in painted:
            raise PromptError(
                f"Label {label} cannot end, as it is not painted on any prompt slice: choose from "
                f"{sorted(painted)}."
            )


def _refuse_other_ends(ends: Any) -> None:
    if ends is not None and not isinstance(ends, Mapping):
        raise PromptError(
            f"Ends are slices by label, as in {{3: [45]}}, not {type(ends).__name__}."
        )


def without_mask(labels: Any) -> Any:
    """Return labels as they are, but for what numpy masks: nothing is painted there."""
    return labels.filled(0) if isinstance(labels, np.ma.MaskedArray) else labels


def read_ends(
    ends: Mapping[Any, Iterable[SupportsIndex]] | None, prompts: Prompts, length: int
) -> dict[int, list[int]]:
    """Check where labels have ended.

    Parameters
    ----------
    ends : mapping of int to iterable of int, optional
        Label -> slices where it is not; labels that are painted, but were not asked for, do not
        matter. None: all are not where a prompt is empty.
    prompts : Prompts
        Painted slices.
    length : int
        Slices in the sequence.

    Returns
    -------
    dict of int to list of int
        The same for painted labels, ascending.

    Raises
    ------
    PromptError
        If a label is not painted, or one of its slices does not exist or shows it.
    """
    if ends is None:
        ends = {
            label: set(prompts.empty).difference(prompts.through.get(label, ()))
            for label in prompts.anchors
        }
    check_ends(ends, _painted(prompts.slices))
    checked: dict[int, list[int]] = {}
    for label, slices in ends.items():
        label = whole(label, "Each label of ends")
        if label not in prompts.anchors:
            continue
        for k in (given := sorted(whole_numbers(slices, "slices in ends"))):
            if not 0 <= k < length:
                raise PromptError(
                    f"Label {label} cannot end before slice {k}: the image has slices 0 to "
                    f"{length - 1}."
                )
            if k in prompts.anchors[label]:
                raise PromptError(
                    f"Label {label} cannot end before slice {k}, where it is painted: name the "
                    "first slice without it."
                )
        checked[label] = given
    return checked


def ends_of_painted(
    ends: Mapping[int, Iterable[int]], slices: Mapping[int, npt.NDArray[Any]]
) -> dict[int, Iterable[int]]:
    """Return what is said of labels that are painted; a record may know of others.

    Parameters
    ----------
    ends : mapping of int to iterable of int
        Label -> slices where it is not.
    slices : mapping of int to ndarray
        Painted slices.
    """
    known = set(_painted(slices)) if ends else set()
    return {label: where for label, where in ends.items() if label in known}


def _painted(slices: Mapping[int, npt.NDArray[Any]]) -> list[int]:
    return sorted(where_shown(slices))
