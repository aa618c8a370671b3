"""Surface Dice (MONAI) and HD95 (SciPy) of one object, in the units of the spacing."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from imos_core.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

_TOLERATED_PIXELS = 2


class SurfaceScores(NamedTuple):
    """How two surfaces agree."""

    dice: float
    """Share of both surfaces that lies within the tolerance of the other one."""
    hd95: float | None
    """The larger of the two 95th percentiles of distances; None where a surface is missing."""


class SurfaceMetrics:
    """Surface scores.

    Parameters
    ----------
    tolerance : float, optional
        Distance within which surfaces agree, in units of the spacing; by default two pixels of a
        slice (the longer side of a pixel counts).

    Raises
    ------
    FileError
        If MONAI is not installed.
    """

    def __init__(self, tolerance: float | None = None) -> None:
        try:
            from monai.metrics import compute_surface_dice
        except ImportError as error:
            raise FileError(
                'Surface Dice needs MONAI: pip install "napari-imos[evaluate]".'
            ) from error
        self._dice = compute_surface_dice
        self._tolerance = tolerance

    def __call__(
        self,
        pred: npt.NDArray[np.bool_],
        truth: npt.NDArray[np.bool_],
        spacing: tuple[float, float, float],
        axis: Literal["z", "t"] = "z",
        given: Collection[int] = (),
    ) -> SurfaceScores:
        """Score one object.

        Parameters
        ----------
        pred, truth : ndarray of bool
            `(T, H, W)`.
        spacing : (float, float, float)
            Size of a voxel, slice axis first.
        axis : {"z", "t"}
            ``z``: the slices make one surface. ``t``: every frame has a contour of its
            own; the scores are means over the frames.
        given : collection of int
            Prompts. Frames that were given do not count. Slices of a volume that were given stay,
            or the surfaces of both sides would be sewn together.

        Returns
        -------
        SurfaceScores
            Surface Dice is 0 where one of both is empty; frames where both are empty do not
            count. NaN if nothing counts.
        """
        if axis == "z":
            return self._scored(pred, truth, spacing) or SurfaceScores(float("nan"), None)
        counted = [k for k in range(len(truth)) if k not in set(given)]
        found = [self._scored(pred[k], truth[k], spacing[1:]) for k in counted]
        scores = [s for s in found if s is not None]
        if not scores:
            return SurfaceScores(float("nan"), None)
        distances = [s.hd95 for s in scores if s.hd95 is not None]
        return SurfaceScores(
            float(np.mean([s.dice for s in scores])),
            float(np.mean(distances)) if distances else None,
        )

    def _scored(
        self, a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], spacing: Sequence[float]
    ) -> SurfaceScores | None:
        """Scores of two masks of two or three axes; None if both are empty."""
        if not (a.any() and b.any()):
            return SurfaceScores(0.0, None) if a.any() or b.any() else None
        tolerance = self._tolerance
        if tolerance is None:
            tolerance = _TOLERATED_PIXELS * max(spacing[-2:])
        box = bounding_box(a | b)
        a, b = a[box], b[box]
        far = surface_distances(a, b, spacing)
        with warnings.catch_warnings():
            # MONAI 1.6 calls a function of its own in a way that it has deprecated
            warnings.simplefilter("ignore", FutureWarning)
            dice = self._dice(
                _batch(a),
                _batch(b),
                # MONAI's distances are rounded to single precision
                [tolerance * (1 + 1e-6)],
                True,
                spacing=tuple(spacing),
                use_subvoxels=True,
            )
        return SurfaceScores(float(dice), float(max(np.percentile(d, 95) for d in far)))


def surface_distances(
    a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distances from the surface of each mask to that of the other one.

    The surface is made of the pixels (voxels) that have a neighbour outside, across a side (face);
    what lies beyond the image is outside.

    Parameters
    ----------
    a, b : ndarray of bool
        Masks of two or three axes, neither empty.
    spacing : sequence of float
        Size of a pixel (voxel).

    Returns
    -------
    tuple of ndarray
        One distance for each element of the surface of `a`, and of `b`.
    """
    sizes = np.asarray(spacing, float)
    points = [np.argwhere(m & ~ndimage.binary_erosion(m)) * sizes for m in (a, b)]
    trees = [KDTree(p) for p in points]
    return trees[1].query(points[0])[0], trees[0].query(points[1])[0]


def bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Smallest box around a mask that is not empty."""
    sides = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(sides)


def _batch(mask: npt.NDArray[np.bool_]) -> Any:
    """Tensor with the axes that MONAI expects: batch and channel first."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(mask))[None, None]
