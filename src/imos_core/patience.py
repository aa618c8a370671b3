"""Patience: which walks end because their label was gone for some slices in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imos_core.label_ids import ids_on

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy.typing as npt

    from imos_core.anchors import Leg


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
        self._empty: dict[tuple[int, int, str, int], int] = {}

    def lost(
        self, labels: npt.NDArray[Any], legs: Iterable[Leg], unseen: Collection[Leg] = ()
    ) -> list[Leg]:
        """Legs that end with a slice.

        Parameters
        ----------
        labels : ndarray
            `(H, W)` what was found there, or a part of it that holds all labels.
        legs : iterable of Leg
            Legs that have just been there.
        unseen : collection of Leg
            Those of them that have not seen their part of a label there, whoever else has.
        """
        if self._slices is None:
            return []
        # one look for all labels: there may be thousands
        here = set(ids_on(labels))
        ended = []
        for leg in legs:
            if not leg.may_end:
                continue
            name = leg.name
            gone = leg.label not in here or leg in unseen
            self._empty[name] = self._empty.get(name, 0) + 1 if gone else 0
            if self._empty[name] >= self._slices:
                ended.append(leg)
        return ended

    def state(self) -> dict[tuple[int, int, str, int], int]:
        """What has been counted."""
        return dict(self._empty)

    def load(self, state: dict[tuple[int, int, str, int], int]) -> None:
        """Go on counting."""
        self._empty = dict(state)
