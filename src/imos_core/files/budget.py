"""What a job's files take of its memory: labels as they are read, results as they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.slabs import DEFAULT_BYTES
from imos_core.byte_sizes import parse_size
from imos_core.files.results import most_held, plane_bytes
from imos_core.walking.budget import Budget

if TYPE_CHECKING:
    from imos_core.arrays.painted import Painted
    from imos_core.files.job import FileJob

SURE = np.dtype(np.float32)
"""Type of confidences in files."""
_PART = 8
"""Part of a budget, as 1 of so many, that labels as read may take, and each result."""


def written_limit(job: FileJob) -> int | None:
    """Bytes of slices of each result that may wait for others of their chunk, if that is said."""
    given = job.options.get("memory_budget")
    return None if given is None else parse_size(given) // _PART


def read_limit(job: FileJob) -> int:
    """Bytes that may be held of the labels as they are read."""
    return min(written_limit(job) or DEFAULT_BYTES, DEFAULT_BYTES)


def budget_of(job: FileJob, painted: Painted) -> dict[str, Any]:
    """Keywords of `imos_core.propagate` that say what is needed beside, if there is a budget."""
    if job.options.get("memory_budget") is None:
        return {}
    shape = (painted.length, *painted.plane_shape)
    results = list(zip(job.outputs(), (painted.dtype, SURE), strict=False))

    def beside(total: int) -> int:
        share = total // _PART
        written = [most_held(path, plane_bytes(shape, 0, dtype), share) for path, dtype in results]
        return painted.most_held(min(share, DEFAULT_BYTES)) + sum(written)

    return {"memory_budget": Budget(job.options["memory_budget"], beside)}
