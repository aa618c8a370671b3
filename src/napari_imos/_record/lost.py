"""Lost: where a label that is on the slice beside was looked for, and found no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_imos._record.provenance import Kind

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari.layers import Labels

    from napari_imos._record.ledger import Ledger
    from napari_imos._walk import Walk


def lost_on(
    ledger: Ledger, labels: Labels, walk: Walk, anchors: Collection[int]
) -> dict[int, list[int]]:
    """Predicted slices -> labels that were followed to there, but not found any more.

    Whether they have ended there or were lost nobody has said. Slices are not read, but for anchors
    that were not looked at yet.

    Parameters
    ----------
    ledger : Ledger
        What runs have left.
    labels : Labels
        The layer.
    walk : Walk
        Its slices.
    anchors : collection of int
        What these show counts, not what runs have left there.
    """
    record, left = ledger.record(labels, walk), ledger.all_left_on(walk)
    shown = {k: ledger.ids_seen(labels, walk, k) for k in anchors}
    lost: dict[int, list[int]] = {}
    for label, made in sorted(record.basis.items()):
        there = left.get(label, set()).difference(shown)
        there.update(k for k, ids in shown.items() if label in ids)
        beside = {n for k in there for n in (k - 1, k + 1) if 0 <= n < record.length}
        for k in beside - there:
            said = label in record.ended.get(k, ())
            if made[k] and record.kind[k] == Kind.PREDICTED and not said:
                lost.setdefault(k, []).append(label)
    return lost
