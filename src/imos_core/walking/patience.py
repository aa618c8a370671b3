"""Patience: which walks end because their label was gone for some slices in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imos_core.label_ids import ids_on

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy.typing as npt

    from imos_core.anchors import Leg, Walk


WINDOW_PATIENCE = 5
"""Empty slices in a row after which a label has ended in windows, where nobody says otherwise: on
validation and training sequences, no mask of the embedded network came back after more than one
slice without it."""
_SOON = 3  # the same for those who want it so


def patience_of(stop_when_gone: bool) -> dict[str, int]:
    """Keyword of `propagate` that says whether labels end as soon as they are gone for a while."""
    return {"patience": _SOON} if stop_when_gone else {}


class Patience:
    """Count the slices in a row on which a label is missing.

    Only beyond its outermost painted slices: between two of them a label does not end.

    Parameters
    ----------
    slices : int or None
        Empty slices in a row after which a walk ends; None: none does.
    """

    def __init__(self, slices: int | None) -> None:
        self._slices = slices
        self._empty: dict[Walk, int] = {}

    def lost(
        self, labels: npt.NDArray[Any], legs: Iterable[Leg], unseen: Collection[Walk] = ()
    ) -> list[Leg]:
        """Legs that end with a slice.

        Parameters
        ----------
        labels : ndarray
            `(H, W)` what was found there, or a part of it that holds all labels.
        legs : iterable of Leg
            Legs that have just been there.
        unseen : collection of (int, int, str, int)
            Names of those of them that walk a part of a label, and have not seen it there.
        """
        if self._slices is None:
            return []
        # one look for all labels: there may be thousands
        here = set(ids_on(labels))
        ended = []
        for leg in legs:
            if leg.enclosed:
                continue
            name = leg.name
            gone = leg.label not in here or (leg.part > 0 and name in unseen)
            self._empty[name] = self._empty.get(name, 0) + 1 if gone else 0
            if self._empty[name] >= self._slices:
                ended.append(leg)
        return ended

    def state(self) -> dict[Walk, int]:
        """What has been counted."""
        return dict(self._empty)

    def load(self, state: dict[Walk, int]) -> None:
        """Go on counting."""
        self._empty = dict(state)
