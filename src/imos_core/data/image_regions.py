"""Regions of single images: ``python -m imos_core.data.image_regions STATIC -o FOLDER``.

Colours, ultrasound and endoscopy come from single images alone, where one object in each is
labelled. As in volumes (`imos_core.data.regions`), a watershed of the gradient finds what else has
a border; every image is divided at a scale of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tqdm import tqdm

from imos_core.data.regions import RegionLimits, divide, standing_out
from imos_core.data.sources import read_picture
from imos_core.errors import FileError, ImosError
from imos_core.formats.left_behind import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

SCALES: tuple[tuple[float, float], ...] = ((1.5, 0.2), (2.5, 0.15), (4.0, 0.1), (6.0, 0.1))
"""Blur in pixels, and depth of the least basin of the gradient (`imos_core.data.regions`)."""
LIMITS = RegionLimits(
    fewest_voxels=150, largest_share=0.2, fewest_slices=1, longest=0.7, fullest=0.3
)
"""Which regions of an image serve as objects."""
_MOST = 255  # labels of an indexed picture


def regions_of_image(
    image: npt.NDArray[np.uint8], scale: tuple[float, float]
) -> npt.NDArray[np.uint8]:
    """Find what has a border of its own.

    Parameters
    ----------
    image : ndarray
        `(H, W)` or `(H, W, 3)`.
    scale : (float, float)
        Blur and depth (`divide`).

    Returns
    -------
    ndarray
        `(H, W)`, regions from 1, the largest ones if there are more than 255; 0 elsewhere.
    """
    grey = image if image.ndim == 2 else np.round(image.mean(-1)).astype(np.uint8)
    regions, gradient = divide(grey[None], 1.0, *scale)
    found = standing_out(grey[None], regions, gradient, LIMITS)[0]
    sizes = np.bincount(found.ravel())
    sizes[0] = 0
    kept = np.argsort(-sizes, kind="stable")[: min(_MOST, np.count_nonzero(sizes))]
    number = np.zeros(len(sizes), np.uint8)
    number[np.sort(kept)] = np.arange(1, len(kept) + 1)
    labels: npt.NDArray[np.uint8] = number[found]
    return labels


def write_image_regions(source: Path, folder: Path, seed: int = 0) -> int:
    """Write an image beside a label map of its regions, if it has any; return their number.

    Parameters
    ----------
    source : Path
        ``<id>.jpg``.
    folder : Path
        Where ``<id>.jpg`` and ``<id>.png`` are written.
    seed : int
        Seed of the scale.
    """
    rng = np.random.default_rng([seed, *os.fsencode(source.stem)])
    labels = regions_of_image(read_picture(source), SCALES[rng.integers(len(SCALES))])
    if labels.any():
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(folder / f"{source.stem}.png")
        shutil.copyfile(source, folder / source.name)
    return int(labels.max())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m imos_core.data.image_regions",
        description=(__doc__ or "").split("\n\n")[1],
    )
    parser.add_argument("static", type=Path, help="folder of <origin>/<id>.jpg")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    given = parser.parse_args(arguments)
    images = visible(given.static, "*/*.jpg")
    try:
        if not images:
            raise FileError(f"No images were found in {given.static}: give another folder.")
        folders = [given.output / path.parent.name for path in images]
        with ProcessPoolExecutor(given.workers) as pool:
            counts = pool.map(write_image_regions, images, folders, repeat(0), chunksize=16)
            found = list(tqdm(counts, total=len(images), unit="image"))
    except ImosError as error:
        sys.stderr.write(f"image_regions: {error}\n")
        return 2
    sys.stdout.write(f"{sum(found)} objects in {np.count_nonzero(found)} images\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
