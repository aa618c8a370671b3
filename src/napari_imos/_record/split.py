"""Split: which objects make way, where they are ours, for those that a person cut out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._walk import ids_on

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_imos._job import Job
    from napari_imos._record.ledger import Ledger


def cut_from(labels: Labels, job: Job, ledger: Ledger) -> tuple[int, ...]:
    """Labels out of which the objects of a job were cut, though nobody asks for these.

    Such a label is on an anchor of the object, too, and on a slice beside it, it fills most of what
    the object covers on the anchor, at least in part as a run has left it, or as it was given back.
    What was cut once stays so, whatever lies there now.

    Parameters
    ----------
    labels : Labels
        Layer.
    job : Job
        What is propagated.
    ledger : Ledger
        What was written into the layer before.
    """
    data: Any = labels.data
    found: set[int] = set()
    runs = ledger.record(labels, job.walk).runs
    for label in job.ids:
        before = {i for run in runs if label in run["labels"] for i in run.get("cut_from", ())}
        for k in job.painted.get(label, ()):
            shape = job.prompts[k] == label
            others = set(ids_on(job.prompts[k])).difference(job.painted)
            found |= before & others
            if not others:
                continue
            for n in {k - 1, k + 1}.intersection(range(job.length)).difference(job.prompts):
                plane = np.asarray(data[job.walk.at(n)])
                ours = ledger.ours(job.walk.at(n), plane)
                for other in others.intersection(ids_on(plane[shape])):
                    there = (plane == other) & shape
                    most = 2 * np.count_nonzero(there) > np.count_nonzero(shape)
                    if most and (there & ours).any():
                        found.add(other)
    return tuple(sorted(found))
