"""Plan: which stretches of slices new anchors can improve, and which are as good as they get."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

    from napari_imos._provenance import Provenance

Span = tuple[int, int]
"""Half-open range of slices."""


def bases(
    prompts: Mapping[int, npt.NDArray[Any]], ids: Sequence[int], length: int, model: str
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

    Returns
    -------
    dict of int to ndarray
        Label -> `(length,)` checksum of the anchors on both sides and the model; never 0.
    """
    result = {}
    for label in ids:
        marks = {
            k: zlib.crc32(np.packbits(prompts[k] == label))
            for k in sorted(prompts)
            if (prompts[k] == label).any()
        }
        made = np.zeros(length, np.uint32)
        for first, last in _stretches(list(marks), length):
            ends = [(k, marks[k]) for k in (first - 1, last) if k in marks]
            made[first:last] = max(zlib.crc32(repr((model, ends)).encode()), 1)
        result[label] = made
    return result


def stale_spans(
    record: Provenance,
    wanted: Mapping[int, npt.NDArray[np.uint32]],
    painted: Mapping[int, Sequence[int]],
    within: Span,
    fixed: Collection[int],
) -> list[Span]:
    """Find the stretches that are not yet what the anchors would make of them.

    Parameters
    ----------
    record : Provenance
        What the slices were made from.
    wanted : mapping of int to ndarray
        What `bases` says.
    painted : mapping of int to sequence of int
        Label -> its anchors, ascending.
    within : (int, int)
        Range of slices that may be written.
    fixed : collection of int
        Slices that are not written anyway.

    Returns
    -------
    list of (int, int)
        Disjoint ranges, ascending, each up to the neighbouring anchors of some label; the whole
        range if nothing is stale, because whoever asks again wants it done again.
    """
    stale = np.zeros(record.length, bool)
    free = np.ones(record.length, bool)
    free[list(fixed)] = False
    free[: within[0]] = free[within[1] :] = False
    for label, made in wanted.items():
        have = record.basis.get(label, np.zeros(record.length, np.uint32))
        for first, last in _stretches(painted[label], record.length):
            part = slice(max(first, within[0]), min(last, within[1]))
            if ((have[part] != made[part]) & free[part]).any():
                # a walk has to start at its anchor: the stretch as a whole
                stale[part] = True
    if not stale.any():
        return [within]
    # stretches on both sides of an anchor grow at the same time
    for k in sorted(fixed):
        stale[k] |= stale[max(k - 1, 0)] and stale[min(k + 1, record.length - 1)]
    edges = np.flatnonzero(np.diff(np.r_[False, stale, False]))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _stretches(anchors: Sequence[int], length: int) -> list[Span]:
    """Split a walk into the slices between anchors, and beyond the outermost ones."""
    bounds = [-1, *anchors, length]
    return [(a + 1, b) for a, b in pairwise(bounds) if b > a + 1]
