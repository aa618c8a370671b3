"""Plan: which stretches of slices new anchors can improve, and which are as good as they get."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import heads
from imos_core.walking.ending import unreached

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from napari_imos._record.provenance import Provenance

Span = tuple[int, int]
"""Half-open range of slices."""
ENDED = zlib.crc32(b"ended")  # what a slice is made from that a label does not reach


@dataclass(frozen=True)
class Stale:
    """What is not yet what the anchors would make of it."""

    spans: tuple[Span, ...]
    """Disjoint ranges to walk, ascending, each up to the neighbouring anchors of some label."""
    ended: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Slice in none of them -> labels that have ended before it, and may still be there."""


def bases(
    prompts: Mapping[int, npt.NDArray[Any]],
    ids: Sequence[int],
    length: int,
    model: str,
    absent: Mapping[int, Sequence[int]],
) -> dict[int, npt.NDArray[np.uint32]]:
    """Say what every slice of every label would be made from now.

    Parameters
    ----------
    prompts : mapping of int to ndarray
        Slice -> `(H, W)` labels.
    ids : sequence of int
        Labels.
    length : int
        Slices.
    model : str
        Anything that tells models and adapters apart.
    absent : mapping of int to sequence of int
        Label -> anchors from which it was erased.

    Returns
    -------
    dict of int to ndarray
        Label -> `(length,)` checksum of the anchors on both sides and the model, or of the fact
        that it has ended; never 0.
    """
    result, where = {}, {k: _marks(prompts[k]) for k in sorted(prompts)}
    for label in ids:
        marks = {k: found[label] for k, found in where.items() if label in found}
        made = np.zeros(length, np.uint32)
        for first, last in _stretches(list(marks), length):
            ends = [(k, marks[k]) for k in (first - 1, last) if k in marks]
            made[first:last] = max(zlib.crc32(repr((model, ends)).encode()), 1)
        for beyond in unreached(list(marks), absent.get(label, ())):
            made[beyond.start : beyond.stop] = ENDED
        result[label] = made
    return result


def find_stale(
    record: Provenance,
    wanted: Mapping[int, npt.NDArray[np.uint32]],
    painted: Mapping[int, Sequence[int]],
    absent: Mapping[int, Sequence[int]],
    within: Span,
    fixed: Collection[int],
    filled: Mapping[int, Collection[int]] | None = None,
    through: Mapping[int, Collection[int]] | None = None,
) -> Stale:
    """Find what is not yet what the anchors would make of it.

    Parameters
    ----------
    record : Provenance
        What the slices were made from.
    wanted : mapping of int to ndarray
        What `bases` says.
    painted : mapping of int to sequence of int
        Label -> its anchors, ascending; a label that has none any more need not be there.
    absent : mapping of int to sequence of int
        Label -> anchors from which it was erased, ascending.
    within : (int, int)
        Range of slices that may be written.
    fixed : collection of int
        Slices that are not written anyway, but for labels that are filled in.
    filled : mapping of int to collection of int, optional
        Of these slices, the labels that are filled in there by now.
    through : mapping of int to collection of int, optional
        Label -> those of these slices onto which it is filled in.

    Returns
    -------
    Stale
        The whole range if nothing is stale, because whoever asks again wants it done again.
    """
    stale = np.zeros(record.length, bool)
    free = np.ones(record.length, bool)
    free[list(fixed)] = False
    free[: within[0]] = free[within[1] :] = False
    over = leftovers(wanted, filled or {}, within)
    for label, made in wanted.items():
        have = record.basis.get(label, np.zeros(record.length, np.uint32))
        wrong, beyond = (have != made) & free, made == ENDED
        for k in np.flatnonzero(wrong & beyond).tolist():
            over.setdefault(k, []).append(label)
        unwalked = wrong & ~beyond
        for k in (through or {}).get(label, ()):
            unwalked[k] = within[0] <= k < within[1] and have[k] != made[k] != ENDED
        for first, last in _stretches(painted.get(label, ()), record.length, absent.get(label, ())):
            part = slice(max(first, within[0]), min(last, within[1]))
            if unwalked[part].any():
                # a walk has to start at its anchor: the stretch as a whole
                stale[part] = True
    if not stale.any() and not over:
        return Stale((within,))
    # stretches on both sides of an anchor grow at the same time
    for k in sorted(fixed):
        stale[k] |= stale[max(k - 1, 0)] and stale[min(k + 1, record.length - 1)]
    edges = np.flatnonzero(np.diff(np.r_[False, stale, False]))
    return Stale(
        tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2)),
        {k: tuple(labels) for k, labels in sorted(over.items()) if not stale[k]},
    )


def leftovers(
    wanted: Mapping[int, npt.NDArray[np.uint32]],
    filled: Mapping[int, Collection[int]],
    within: Span,
) -> dict[int, list[int]]:
    """Prompt slice -> labels that were filled in there, and have ended before it by now.

    Parameters
    ----------
    wanted, filled, within
        See `find_stale`.
    """
    found: dict[int, list[int]] = {}
    for k in filled.keys() & range(*within):
        if ended := [i for i in wanted if i in filled[k] and wanted[i][k] == ENDED]:
            found[k] = ended
    return found


def _marks(plane: npt.NDArray[Any]) -> dict[int, int]:
    """Label of a slice, `(H, W)` -> checksum of where it is; in one go, as there may be many."""
    flat = plane.reshape(-1)
    starts = heads(flat)
    there = flat[starts]
    runs = np.stack([starts, np.diff(starts, append=flat.size)], axis=1).astype("<i8")
    order = np.flatnonzero(there)
    order = order[np.argsort(there[order], kind="stable")]
    groups = np.split(order, heads(there[order])[1:]) if order.size else []
    return {int(there[group[0]]): zlib.crc32(runs[group]) for group in groups}


def _stretches(anchors: Sequence[int], length: int, erased: Iterable[int] = ()) -> list[Span]:
    """Split a walk into the slices between anchors, and beyond the outermost ones.

    Beyond these it goes as far as the first slice from which the label was erased.
    """
    erased = list(erased)
    low, high = -1, length
    if anchors:
        low = max((k for k in erased if k < anchors[0]), default=low)
        high = min((k for k in erased if k > anchors[-1]), default=high)
    bounds = [low, *anchors, high]
    return [(a + 1, b) for a, b in pairwise(bounds) if b > a + 1]
