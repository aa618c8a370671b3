"""Placement: where the voxels of a Labels layer lie in an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_imos._reader import DIRECTIONS
from napari_imos._units import factors, units_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from napari.layers import Image, Labels, Layer

_CLOSE = 0.5  # voxels: no nearer than this can two grids be told to differ
_TURNED = 1e-3  # radians: half a voxel at the end of 500


@dataclass(frozen=True)
class Placement:
    """Where voxels of a Labels layer are in an image: ``start + step * index``, axis by axis."""

    starts: Mapping[int, float]
    """Axis of the labels -> place of its first voxel along the image's axis, in voxels."""
    steps: Mapping[int, float]
    """Axis of the labels -> voxels of the image for one of the labels."""

    def index(self, axis: int, k: int) -> int:
        """Return the image's nearest voxel to a voxel of the labels."""
        return round(self.starts[axis] + self.steps[axis] * k)

    def covered(self, axis: int, size: int, length: int) -> range:
        """Voxels of the labels, of which there are `size`, that lie in `length` of the image."""
        places = np.round(self.starts[axis] + self.steps[axis] * np.arange(size))
        inside = np.flatnonzero((places >= 0) & (places < length))
        return range(int(inside[0]), int(inside[-1]) + 1) if inside.size else range(0)


def placement(image: Image, labels: Labels, pairs: Mapping[int, int]) -> Placement | None:
    """Find where labels lie in an image; None if one is turned or sheared against the other.

    Where the files of both say how their axes point in the patient, that counts, too: napari shows
    every file along its own axes. Where one of them says where it lies and the other layer lies
    nowhere, these go together voxel by voxel if they are of one shape.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers.
    pairs : mapping of int to int
        Axis of the labels -> axis of the image.
    """
    mine, theirs = list(pairs), list(pairs.values())
    sizes = [labels.data.shape[a] for a in mine]
    units, others = units_of(labels, labels.ndim), units_of(image, image.ndim)
    ratios = factors([units[a] for a in mine], [others[a] for a in theirs])
    if _goes_nowhere(image, labels, pairs, ratios):
        return Placement(dict.fromkeys(mine, 0.0), dict.fromkeys(mine, 1.0))
    turn = _turn(image, labels, len(mine))
    spatial = [] if turn is None else theirs[-len(turn) :]

    def place(corner: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Voxel of the labels -> voxel of the image, on the axes that both have."""
        at = np.zeros(labels.ndim)
        at[mine] = corner
        there = np.asarray(image.data_to_world(np.zeros(image.ndim)), float)
        there[theirs] = np.asarray(labels.data_to_world(at))[mine] * ratios
        if turn is not None:
            there[spatial] = turn @ there[spatial]
        return np.asarray(image.world_to_data(there))[theirs]

    start = place(np.zeros(len(mine)))
    ways = [place(n * axis) - start for n, axis in zip(sizes, np.eye(len(mine)), strict=True)]
    starts, steps = {}, {}
    for k, (axis, size, way) in enumerate(zip(mine, sizes, ways, strict=True)):
        if np.abs(np.delete(way, k)).max(initial=0) >= _CLOSE or way[k] <= 0:
            return None
        # over the whole length, a step of one voxel is as good as one
        same = abs(way[k] - size) < _CLOSE
        steps[axis] = 1.0 if same else float(way[k]) / size
        starts[axis] = float(np.round(start[k])) if same else float(start[k])
    return Placement(starts, steps)


def _goes_nowhere(
    image: Image, labels: Labels, pairs: Mapping[int, int], ratios: npt.NDArray[np.float64]
) -> bool:
    """Whether one of two layers alike has a place in a patient, and the other has none at all."""
    places = [DIRECTIONS in layer.metadata for layer in (image, labels)]
    if sum(places) != 1:
        return False
    if not lies_nowhere(labels if places[0] else image):
        return False
    data: Any = image.data[0] if image.multiscale else image.data
    sizes = np.abs(np.asarray(labels.scale)[list(pairs)]) * ratios
    same = np.allclose(sizes, np.abs(np.asarray(image.scale)[list(pairs.values())]), rtol=1e-3)
    return same and all(labels.data.shape[a] == data.shape[b] for a, b in pairs.items())


def lies_nowhere(layer: Layer) -> bool:
    """Whether nobody has said where a layer lies; its scale may be known."""
    square = np.eye(layer.ndim)
    nowhere = np.allclose(layer.affine.affine_matrix, np.eye(layer.ndim + 1))
    nowhere &= np.allclose(layer.rotate, square) and np.allclose(layer.shear, 0)
    return bool(nowhere and np.allclose(layer.translate, 0))


def steps_of(layer: Layer) -> npt.NDArray[np.float64]:
    """Return how long a step is along each axis, `(ndim,)`."""
    turns = layer.affine.linear_matrix @ np.asarray(layer.rotate)
    return np.asarray(np.abs(layer.scale) * np.linalg.norm(turns, axis=0))


def contradict(image: Image, labels: Labels) -> bool:
    """Whether the files of both say where their voxels lie, and these do not lie on each other."""
    both = min(image.ndim, labels.ndim)
    if _turn(image, labels, both) is None:
        return False
    pairs = {a - both + labels.ndim: a - both + image.ndim for a in range(both)}
    place = placement(image, labels, pairs)
    return place is None or any(place.starts.values()) or set(place.steps.values()) != {1.0}


def turned(image: Image, labels: Labels) -> bool:
    """Whether the files of both say that their axes point elsewhere in the patient."""
    turn = _turn(image, labels, min(image.ndim, labels.ndim))
    return turn is not None and not np.allclose(turn, np.eye(len(turn)), atol=_TURNED)


def directions_of(layer: Layer) -> dict[str, Any]:
    """Return what a layer's metadata say of the directions of its axes, as metadata."""
    return {DIRECTIONS: layer.metadata[DIRECTIONS]} if DIRECTIONS in layer.metadata else {}


def _turn(image: Image, labels: Labels, axes: int) -> npt.NDArray[np.float64] | None:
    """World of labels -> world of an image, on the last axes; None unless both files say it."""
    ours, theirs = (np.array(layer.metadata.get(DIRECTIONS, ())) for layer in (image, labels))
    both = min(len(ours), len(theirs), axes)
    if not both:
        return None
    # of films and single slices there are two, in space
    return np.asarray(np.linalg.pinv(ours[-both:].T) @ theirs[-both:].T)
