"""Changes: what one run has changed in a layer, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.label_ids import ids_on, relabelled
from napari_imos._record.probes import some_of_each

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from napari_imos._record.covered import Covered
    from napari_imos._record.provenance import Provenance
    from napari_imos._walk import Walk


@dataclass(frozen=True)
class Change:
    """Voxels of one slice that a run changed."""

    index: int
    """Slice of the walk."""
    voxels: npt.NDArray[np.int32]
    """`(N,)` positions in the flattened slice."""
    old: npt.NDArray[Any]
    """`(N,)` labels before."""
    new: npt.NDArray[Any]
    """`(N,)` labels after."""
    noted: npt.NDArray[Any]
    """`(N,)` what the ledger said before."""

    def __post_init__(self) -> None:
        """Keep what is the same everywhere once: these are kept for as long as the layer is."""
        for name in ("old", "new", "noted"):
            object.__setattr__(self, name, _once(getattr(self, name)))

    @cached_property
    def ids(self) -> frozenset[int]:
        """Labels that are on the slice now, where they were not."""
        return frozenset(ids_on(self.new))

    @cached_property
    def probes(self) -> npt.NDArray[np.intp]:
        """`(M,)` positions among the voxels by which one tells what has become of the labels."""
        return some_of_each(self.new, self.ids)

    def renamed(self, names: Mapping[int, int]) -> Change:
        """Return the change as if other labels had been written."""
        new, noted = relabelled(self.new, names), relabelled(self.noted, names)
        if new is self.new and noted is self.noted:
            return self
        other = replace(self, new=new, noted=noted)
        # what has been found out of many labels takes long to be found again
        known = vars(self)
        if "ids" in known:
            vars(other)["ids"] = frozenset(names.get(i, i) for i in self.ids)
        if "probes" in known:
            vars(other)["probes"] = self.probes
        return other


@dataclass(eq=False)
class Run:
    """One propagation into a layer."""

    walk: Walk
    anchors: tuple[int, ...]
    ids: tuple[int, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """Model, checksum, adapter, range: what the record says of the run."""
    changes: list[Change] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    """Slices that have arrived."""
    filled: list[int] = field(default_factory=list)
    """Slices of a person onto which objects were filled in."""
    before: Provenance | None = None
    """Record before the run."""
    after: Provenance | None = None
    """Record when it was taken back."""
    disturbed: dict[tuple[Walk, int], dict[str, Any]] = field(default_factory=dict)
    """Slices of walks along other axes that it has changed -> what was known of them."""
    ends: tuple[tuple[Walk, int, int], ...] = ()
    """Slices of walks, and labels that a person said have ended before them: what it follows."""
    erased: dict[int, list[int]] = field(default_factory=dict)
    """Slices -> labels that a person had erased there, where it has filled in others."""
    covered: list[Covered] = field(default_factory=list)
    """What was painted over while it ran: these strokes' own undo brings it back."""
    first: frozenset[int] = frozenset()
    """Those of its anchors that were prompts of no run before."""


def joined(earlier: Change, change: Change) -> tuple[Change, Change]:
    """Split two changes of a slice by voxel; each voxel keeps the label that it had at first."""
    _, mine, theirs = np.intersect1d(
        change.voxels, earlier.voxels, assume_unique=True, return_indices=True
    )
    old, noted = change.old.copy(), change.noted.copy()
    old[mine], noted[mine] = earlier.old[theirs], earlier.noted[theirs]
    rest = np.ones(earlier.voxels.size, bool)
    rest[theirs] = False
    kept = old != change.new
    return (
        Change(*(earlier.index, *(x[rest] for x in _columns(earlier)))),
        Change(change.index, change.voxels[kept], old[kept], change.new[kept], noted[kept]),
    )


def _once(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values, of which one is kept if they are all the same."""
    if values.size and (values == values[0]).all():
        return np.broadcast_to(values[:1].copy(), values.shape)
    return values


def _columns(change: Change) -> tuple[npt.NDArray[Any], ...]:
    return change.voxels, change.old, change.new, change.noted
