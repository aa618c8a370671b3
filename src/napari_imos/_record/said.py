"""What a person says of a slice: it is an anchor, it is right, or it may be redone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._record.provenance import Kind, checksum

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_imos._record.ledger import Ledger
    from napari_imos._walk import Walk


def toggle_anchor(ledger: Ledger, labels: Labels, walk: Walk, k: int) -> bool:
    """Set an anchor, or drop it; return whether it is one now. What is painted stays."""
    record = ledger.record(labels, walk)
    ledger.forget_seen()  # a slice may stand for other labels now
    ledger.examine(labels, walk, k)
    if k in ledger.known_anchors(labels, walk):
        record.checked[k] = False
        ledger.examine(labels, walk, k)
        if k in ledger.known_anchors(labels, walk):
            record.dropped[k] = checksum(np.asarray(labels.data[walk.at(k)]))
        record.forget(k)
        return False
    record.dropped.pop(k, None)
    if record.kind[k] == Kind.DRAWN:
        record.painted[k] = True
        record.strokes.pop(k, None)  # whatever is undone
    elif record.kind[k] != Kind.CORRECTED:
        record.checked[k] = True
    ledger.examine(labels, walk, k)
    return True


def toggle_checked(ledger: Ledger, labels: Labels, walk: Walk, k: int) -> bool:
    """Lock a slice as it is, or unlock it; return whether it is locked now."""
    record = ledger.record(labels, walk)
    ledger.forget_seen()  # a slice may stand for other labels now
    record.checked[k] = not record.checked[k]
    record.dropped.pop(k, None)
    ledger.examine(labels, walk, k)
    return bool(record.checked[k])


def release(ledger: Ledger, labels: Labels, walk: Walk, k: int) -> None:
    """Make a slice ours, whoever painted it: the next run may redo it."""
    data: Any = labels.data
    record = ledger.record(labels, walk)
    ledger.forget_seen()  # a slice may stand for other labels now
    plane = np.asarray(data[walk.at(k)])
    if record.written[k]:
        held = [checksum(ledger.noted(walk.at(k), plane)), checksum(plane)]
        if k in record.foreign:
            held.append(record.foreign[k].held)
        record.given[k] = record.given.get(k, frozenset()).union(held)
    ledger.adopt(walk, k, plane, data.shape)
    record.checked[k] = record.painted[k] = False
    record.written[k] = True
    record.dropped.pop(k, None)
    record.erased.pop(k, None)
    record.strokes.pop(k, None)
    record.ended.pop(k, None)
    ledger.forget_prompt(walk, k)
    record.foreign.pop(k, None)
    record.forget(k)
    ledger.examine(labels, walk, k)
