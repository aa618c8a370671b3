"""Regions as objects: ``python -m imos_core.data.regions SEQUENCES -o FOLDER``.

A person can paint whatever has a border, but a labelled volume names few objects. A watershed of
the gradient at several scales divides the whole volume into regions with borders: organs, muscles,
vessels, bones, cells. Those that stand out become objects of further training sequences. The same
regions, painted with other intensities, show their shapes in contrasts that no scanner has.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.morphology import local_minima, reconstruction
from skimage.segmentation import find_boundaries, watershed
from tqdm import tqdm

from imos_core.data.arrays import as_bytes, as_labels
from imos_core.data.sources import refuse_empty_choice, sequence_names
from imos_core.errors import FileError, ImosError
from imos_core.formats.left_behind import visible
from imos_core.sequence_files import open_sequence, sequence_arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

SCALES: tuple[tuple[float, float], ...] = (
    (1.0, 0.1),
    (1.0, 0.2),
    (2.0, 0.05),
    (2.0, 0.15),
    (3.5, 0.08),
)
"""Blur in pixels, and depth of the least basin of the gradient, as a share of strong gradients."""
_CONTRAST = 1.4  # least gradient at the border, relative to that inside
_ALIKE = 8  # grey levels: neighbours that differ by less share a border only where there is an edge
_MOST_OPEN = 0.15  # share of a region's border that neither contrast nor edge explains


@dataclass(frozen=True)
class RegionLimits:
    """Which regions serve as objects."""

    fewest_voxels: int = 250
    """Of a region."""
    largest_share: float = 0.06
    """Largest region, as a share of the volume."""
    fewest_slices: int = 4
    """Slices that it crosses."""
    longest: float = 0.6
    """Largest extent within a slice, as a share of the slice."""
    fullest: float = 0.2
    """Least share of its bounding box: no shells."""


def divide(
    image: npt.NDArray[np.uint8], ratio: float, blur: float, depth: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Divide a volume into the basins of its gradient.

    Parameters
    ----------
    image : ndarray
        `(T, H, W)`.
    ratio : float
        Distance of slices in pixels of a slice.
    blur : float
        Standard deviation of the Gaussian whose gradient is taken, in pixels.
    depth : float
        Basins less deep join their neighbours; as a share of strong gradients.

    Returns
    -------
    regions : ndarray
        `(T, H, W)`, from 1.
    gradient : ndarray
        `(T, H, W)` float32, its magnitude.
    """
    sigma = (max(blur / ratio, 0.4), blur, blur)
    gradient = ndimage.gaussian_gradient_magnitude(image.astype(np.float32), sigma)
    gradient = np.minimum(gradient, np.percentile(gradient, 99.5)).astype(np.float32)
    # borders fill a tenth of a crowded volume, and next to nothing of an empty one
    usual, steep = np.percentile(gradient, (90, 99))
    raised = gradient + np.float32(depth * max(usual, steep / 4))
    filled = np.round(reconstruction(raised, gradient, method="erosion"), 3)
    markers, _ = ndimage.label(local_minima(filled), np.ones((3, 3, 3)))
    return watershed(filled, markers).astype(np.int32), gradient


def standing_out(
    image: npt.NDArray[np.uint8],
    regions: npt.NDArray[np.int32],
    gradient: npt.NDArray[np.float32],
    limits: RegionLimits | None = None,
) -> npt.NDArray[np.uint16]:
    """Keep regions with a border of their own, neither specks nor shells nor surroundings.

    Parameters
    ----------
    image : ndarray
        `(T, H, W)`.
    regions : ndarray
        `(T, H, W)`, 0 is background.
    gradient : ndarray
        `(T, H, W)`, high at borders.
    limits : RegionLimits, optional
        What is kept.

    Returns
    -------
    ndarray
        `(T, H, W)`, those regions numbered from 1, at most 65,535 of them; 0 elsewhere.
    """
    limits = limits or RegionLimits()
    count = int(regions.max()) + 1
    sizes = np.bincount(regions.ravel(), minlength=count)
    border = find_boundaries(regions, mode="inner")
    at_border = np.bincount(regions[border], minlength=count)
    slopes = np.bincount(regions[border], gradient[border], count) / np.maximum(at_border, 1)
    inside = sizes - at_border
    flats = np.bincount(regions[~border], gradient[~border], count) / np.maximum(inside, 1)
    keep = (sizes >= limits.fewest_voxels) & (sizes <= limits.largest_share * regions.size)
    keep &= (inside > 0) & (slopes > _CONTRAST * flats)
    keep &= slopes > 0.5 * float(gradient.mean())
    keep &= _open_share(regions, gradient, _means(image, regions), flats) <= _MOST_OPEN
    keep[0] = False
    number = np.zeros(count, np.uint16)
    kept = 0
    for label, box in enumerate(ndimage.find_objects(regions), start=1):
        if box is None or not keep[label] or kept == np.iinfo(np.uint16).max:
            continue
        extents = [side.stop - side.start for side in box]
        shares = [extents[a] / regions.shape[a] for a in (1, 2)]
        full = sizes[label] / np.prod(extents)
        if extents[0] < limits.fewest_slices or max(shares) > limits.longest:
            continue
        if full >= limits.fullest:
            kept += 1
            number[label] = kept
    return number[regions]


def _means(image: npt.NDArray[np.uint8], regions: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Mean intensity of every region, 0 of numbers that no region has."""
    sizes = np.bincount(regions.ravel())
    means: npt.NDArray[np.float64] = np.bincount(regions.ravel(), image.ravel()) / np.maximum(
        sizes, 1
    )
    return means


def _open_share(
    regions: npt.NDArray[np.int32],
    gradient: npt.NDArray[np.float32],
    means: npt.NDArray[np.float64],
    flats: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Share of each region's border at which neither its neighbour nor an edge sets it apart."""
    count = len(means)
    touching, open_ = np.zeros(count), np.zeros(count)
    for axis in range(3):
        numbers, slopes = np.moveaxis(regions, axis, 0), np.moveaxis(gradient, axis, 0)
        met = numbers[:-1] != numbers[1:]
        one, two = numbers[:-1][met], numbers[1:][met]
        edge = np.maximum(slopes[:-1][met], slopes[1:][met])
        alike = np.abs(means[one] - means[two]) < _ALIKE
        for region in (one, two):
            touching += np.bincount(region, minlength=count)
            weak = alike & (edge < np.maximum(_CONTRAST * flats[region], _ALIKE))
            open_ += np.bincount(region[weak], minlength=count)
    share: npt.NDArray[np.float64] = open_ / np.maximum(touching, 1)
    return share


def repaint(
    image: npt.NDArray[np.uint8], regions: npt.NDArray[np.int32], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Give every region another intensity; a share of its own texture stays.

    Parameters
    ----------
    image : ndarray
        `(T, H, W)`.
    regions : ndarray
        `(T, H, W)`, every voxel in one.
    rng : Generator
        Source of the random choices.

    Returns
    -------
    ndarray
        `(T, H, W)`.
    """
    count = int(regions.max()) + 1
    kinds = rng.uniform(20, 235, int(rng.integers(4, 24)))  # tissues: regions that look alike
    new = kinds[rng.integers(len(kinds), size=count)] + rng.normal(0, 6, count)
    texture = (image - _means(image, regions)[regions]).astype(np.float32)
    painted = new[regions] + rng.uniform(0.2, 1.2) * texture
    blurred = ndimage.gaussian_filter(painted, rng.uniform(0.3, 0.9))
    shown: npt.NDArray[np.uint8] = np.clip(np.round(blurred), 0, 255).astype(np.uint8)
    return shown


def write_regions(
    source: Path, folder: Path, scales: Sequence[tuple[float, float]] = SCALES, seed: int = 0
) -> int:
    """Write one volume's regions as training sequences, one file per scale, every second repainted.

    Parameters
    ----------
    source : Path
        ``.npz`` file with `image`, `labels` and `spacing`.
    folder : Path
        Where ``<name>-<number>.npz`` are written.
    scales : sequence of (float, float)
        Blur and depth of each (`divide`).
    seed : int
        Seed of what is random.

    Returns
    -------
    int
        Number of objects.
    """
    with open_sequence(source) as file:
        pixels, ids, spacing = sequence_arrays(file)
    if pixels.ndim != 3 or len(pixels) < RegionLimits().fewest_slices:
        return 0
    labels = as_labels(ids)
    image = as_bytes(pixels, labels)
    folder.mkdir(parents=True, exist_ok=True)
    ratio = spacing[0] / spacing[1]
    rng = np.random.default_rng([seed, *os.fsencode(source.stem)])
    objects = 0
    for number, (blur, depth) in enumerate(scales):
        regions, gradient = divide(image, ratio, blur, depth)
        for painted in (False, True):
            shown, parts = image, regions
            if painted:
                # what is labelled keeps its shape: it is one region
                parts = np.where(labels > 0, labels.astype(np.int32) + int(regions.max()), regions)
                shown = repaint(image, parts, rng)
                # borders are known: texture that is left inside does not count
                steps = _means(shown, parts)[parts].astype(np.float32)
                gradient = ndimage.morphological_gradient(steps, 3)
            found = standing_out(shown, parts, gradient)
            if not found.any():
                continue
            objects += int(found.max())
            name = f"{source.stem}-{number}{'p' if painted else ''}.npz"
            np.savez_compressed(folder / name, image=shown, labels=found, spacing=spacing)
    return objects


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m imos_core.data.regions", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("sequences", type=Path, help="folder of <modality>/<name>.npz")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--licences", nargs="*", default=["open"], help="classes that may be used")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    licences = tuple(given.licences)
    names = sequence_names(given.sequences, licences)
    files = [
        path
        for path in visible(given.sequences, "*/*.npz")
        if names is None or f"{path.parent.name}/{path.stem}" in names
    ]
    try:
        refuse_empty_choice(given.sequences, names, licences)
        if not files:
            raise FileError(f"No sequences were found in {given.sequences}: give another folder.")
        folders = [given.output / path.parent.name for path in files]
        with ProcessPoolExecutor(given.workers) as pool:
            counts = pool.map(write_regions, files, folders, repeat(SCALES))
            for path, count in zip(files, tqdm(counts, total=len(files)), strict=True):
                tqdm.write(f"{path.parent.name}/{path.stem}: {count} objects")
    except ImosError as error:
        sys.stderr.write(f"regions: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
