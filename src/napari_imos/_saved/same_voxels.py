"""Same voxels: the NIfTI file that says for labels where in the patient they lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.on_grid import Grid
from imos_core.formats.nifti import coded_affines, is_nifti_name, read
from imos_core.formats.units import length_unit, rescaled
from napari_imos._reader import DIRECTIONS
from napari_imos._record.ledger import Ledger
from napari_imos._walk import is_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.layers import Labels

    from imos_core.formats.volume import Volume

_CLOSE = 0.1
"""Voxels, at the ends: as `imos_core.formats.affines` has it."""


def volume_like(
    labels: Labels, data: npt.NDArray[Any], path: Path, images: Sequence[str]
) -> Volume | None:
    """Return labels with header and affine of the file that has their voxels; None without one.

    That is the file that they come from, or else that of their image, or that which they replace,
    as long as the layer lies where the file says. Layers that count voxels have been read by
    others, who may have turned them.

    Parameters
    ----------
    labels : Labels
        Layer.
    data : ndarray
        What it holds, three axes.
    path : Path
        Where it is to be saved.
    images : sequence of str
        Files of images that are open beside it.
    """
    if not is_nifti_name(path):
        return None
    runs = [run for record in Ledger.of(labels).records.values() for run in record.runs]
    candidates: list[tuple[Any, Any]] = [(labels.source.path, None)]
    candidates += [(run.get("image_path"), run.get("grid")) for run in reversed(runs)]
    candidates += [(file, None) for file in (*images, path)]
    tried = []
    for file, grid in candidates:
        if file and (file, grid) not in tried:
            tried.append((file, grid))
            if (found := _like(labels, data, Path(file), grid)) is not None:
                return found
    return None


def _like(
    labels: Labels, data: npt.NDArray[Any], file: Path, plain: dict[str, Any] | None
) -> Volume | None:
    """Return labels as a file describes them that has their voxels, or of which they are a part."""
    if not is_nifti_name(file) or not file.is_file():
        return None
    try:
        volume = read(file, series=True, values=False)
    except Exception:  # readers raise whatever they like, and it is another file than is written
        return None
    shape = tuple(volume.array.shape)[: len(volume.array.shape) - volume.channels_last][-3:]
    if volume.spacing is None or not coded_affines(volume.extra["header"]):
        return None
    grid = Grid.from_plain(plain) if plain else Grid((0.0,) * 3, (1.0,) * 3, data.shape, 0.0)
    film = is_time(labels, 0)
    if volume.film != film or shape != grid.image_shape or (film and plain):
        return None
    if not _lies(labels, volume, grid, film):
        return None
    return _part(volume, grid, data)


def _lies(labels: Labels, volume: Volume, grid: Grid, film: bool) -> bool:
    """Whether a layer lies where a file says that a part of its voxels lies."""
    known = np.array(labels.metadata.get(DIRECTIONS, volume.extra["directions"]), float)
    if not np.allclose(known, volume.extra["directions"], atol=1e-3):
        return False
    units = {str(unit) for unit in labels.units[-2 if film else -3 :]}
    unit = length_unit(units.pop()) if len(units) == 1 else None
    factor = rescaled((1.0, 1.0, 1.0), unit, volume.unit)[0]
    spacing, begin = np.array(volume.spacing), np.array(volume.extra["translation"])
    corners = np.vstack([np.zeros(3), np.diag(np.array(labels.data.shape, float))])
    for corner in corners:
        there = np.asarray(labels.data_to_world(corner)) * factor
        expected = begin + spacing * (np.array(grid.starts) + np.array(grid.steps) * corner)
        # time counts in steps in a layer
        if (np.abs(there - expected) / spacing)[film:].max() > _CLOSE:
            return False
    return True


def _part(volume: Volume, grid: Grid, data: npt.NDArray[Any]) -> Volume:
    """Return labels as a part of a file, on a grid."""
    extra = dict(volume.extra)
    if not volume.film:
        affine = np.array(extra["affine"])
        for axis, start, step in zip(extra["axes"], grid.starts, grid.steps, strict=True):
            affine[:3, 3] += start * extra["affine"][:3, axis]
            affine[:3, axis] *= step
        z, y, x = (s * n for s, n in zip(volume.spacing or (), grid.steps, strict=True))
        extra |= {"affine": affine, "spacing": (z, y, x), "shape": data.shape[::-1]}
    return replace(volume, array=data, spacing=extra["spacing"], extra=extra, channels_last=False)
