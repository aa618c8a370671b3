"""Affines: whether two files say that their voxels lie at the same places."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from imos_core.errors import FileError
from imos_core.formats.nifti import coded_affines, stretched
from imos_core.formats.units import rescaled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Spacing, Volume

    Affine = npt.NDArray[np.float64]

_TOLERANCE = 0.1
"""Voxels at the farthest corner. Quaternions in float32 may turn a volume by 5e-4, and resampling
to the nearest voxel would change nothing up to a half."""


def check_affines(
    image_file: Path,
    image: Volume,
    labels_file: Path,
    labels: Volume,
    axis: int = 0,
    spacing: Spacing | None = None,
    anchors: Sequence[int] | None = None,
) -> None:
    """Refuse labels that lie elsewhere than the image whose voxels they are taken for.

    Only NIfTI says where voxels lie, and only if its sform or qform has a code. Shapes that do not
    fit are left to others.

    Parameters
    ----------
    image_file, labels_file : Path
        Names, for the message.
    image, labels : Volume
        As read. Labels may be a single slice.
    axis : int
        Axis that is walked.
    spacing : (float, float, float), optional
        What a person says of the image's voxels; earlier results have it in their affine.
    anchors : sequence of int, optional
        The one slice of the image that a single slice is taken for.

    Raises
    ------
    FileError
        If they lie apart.
    """
    ours, theirs = _affines(image), _affines(labels)[:1]
    # only NIfTI files number their axes
    pairs = _shared(image, labels, axis) if ours and theirs else []
    if not pairs:
        return
    if spacing is not None and image.extra["spacing"] is not None:
        ours += [stretched(affine, image.extra["spacing"], spacing) for affine in ours]
    # a program that paints may go by the image's qform where others go by its sform
    apart = min(_farthest(affine, theirs[0], image, labels, pairs) for affine in ours)
    if apart > _TOLERANCE:
        raise FileError(
            f"{labels_file} does not lie where {image_file} lies: their NIfTI affines are up to "
            f"{apart:.3g} voxels apart, so resample the labels onto the image, or save them with "
            "its affine."
        )
    through = image.extra["axes"][axis % 3]
    single = tuple(labels.array.shape) != tuple(image.array.shape[:3])
    if single and any(np.allclose(affine, theirs[0], atol=1e-3) for affine in ours):
        return  # the volume's own, as people copy it: it says nothing of this slice
    if single and through < 3 and anchors is not None and len(anchors) == 1:
        places = [_slice(affine, theirs[0], image, labels, pairs, through) for affine in ours]
        if anchors[0] not in places:
            inside = 0 <= places[0] < image.array.shape[axis % 3]
            way = f"choose slice {places[0]} (--anchors {places[0]}), or " if inside else ""
            raise FileError(
                f"{labels_file} lies at slice {places[0]} of {image_file}, by their NIfTI affines, "
                f"and not at slice {anchors[0]}: {way}save it with the place of the slice that it "
                "belongs to."
            )


def _affines(volume: Volume) -> list[Affine]:
    """What a file says of its place, what counts first; nothing of files that say nothing."""
    if volume.format != "nifti":
        return []
    return coded_affines(volume.extra["header"])


def _shared(image: Volume, labels: Volume, axis: int) -> list[tuple[int, int, int]]:
    """Axes of space that both have: length, axis in the image's file, axis in the labels' file."""
    shape = tuple(image.array.shape)[: len(image.array.shape) - image.channels_last]
    own = tuple(labels.array.shape)
    if len(shape) != 3 or "axes" not in image.extra or "axes" not in labels.extra:
        return []
    rows = list(zip(shape, image.extra["axes"], strict=True))
    columns = list(labels.extra["axes"])
    if own != shape:
        # of a slice across another axis, the file's axes are no longer those of space
        if axis % 3 or own[-2:] != shape[1:] or own[:-2] not in ((), (1,)):
            return []
        rows, columns = rows[1:], columns[-2:]
    # time has no place, and what is held is the same place only by its number
    return [(n, a, b) for (n, a), b in zip(rows, columns, strict=True) if a < 3 and b < 3]


def _slice(
    ours: Affine,
    theirs: Affine,
    image: Volume,
    labels: Volume,
    pairs: list[tuple[int, int, int]],
    through: int,
) -> int:
    """Slice of the image that the middle of a single slice lies at."""
    scale = rescaled((1.0, 1.0, 1.0), labels.unit, image.unit)[0]
    middle = theirs[:3, 3] + sum((n - 1) / 2 * theirs[:3, b] for n, _, b in pairs)
    return round(float(np.linalg.solve(ours[:3, :3], middle * scale - ours[:3, 3])[through]))


def _farthest(
    ours: Affine,
    theirs: Affine,
    image: Volume,
    labels: Volume,
    pairs: list[tuple[int, int, int]],
) -> float:
    """Largest distance of corners that should be the same, in voxels of the image."""
    scale = rescaled((1.0, 1.0, 1.0), labels.unit, image.unit)[0]
    inverse = np.linalg.inv(ours[:3, :3])
    compared = [a for _, a, _ in pairs]
    farthest = 0.0
    for ends in product((0, 1), repeat=len(pairs)):
        here, there = ours[:3, 3].copy(), theirs[:3, 3].copy()
        for end, (length, a, b) in zip(ends, pairs, strict=True):
            here += end * (length - 1) * ours[:3, a]
            there += end * (length - 1) * theirs[:3, b]
        apart = (inverse @ (there * scale - here))[compared]
        farthest = max(farthest, float(np.abs(apart).max()))
    return farthest
