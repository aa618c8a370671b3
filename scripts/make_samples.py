"""Make the embedded real sample (MNI152 brain, four structures) from the template in nilearn.

Run ``pip install nilearn nibabel`` and then ``python scripts/make_samples.py``, or give the folder
with the template files. The synthetic samples need no file: `imos_core.samples` draws them.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import watershed

TARGET = Path(__file__).parents[1] / "src" / "imos_core" / "_samples" / "brain.npz"
FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
ORIGIN = np.array([-98, -134, -72])  # millimetres of voxel (0, 0, 0); voxels are 1 mm
BOX = ((-72, 73), (-100, 45), (-72, 82))  # x, y, z in millimetres

Volume = npt.NDArray[np.uint8]


def template_folder() -> Path:
    """Find the folder inside an installed nilearn, without importing it."""
    spec = find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise SystemExit("nilearn is not installed: pip install nilearn, or give the data folder.")
    return Path(spec.origin).parent / "datasets" / "data"


def ventricles(t1: Volume, tissue: npt.NDArray[np.int_], at: npt.NDArray[np.int_]) -> Volume:
    """Label the lateral ventricles 1 and 2: connected dark fluid at known places."""
    x, y, z = at
    fluid = (t1 > 0) & (t1 < 105) & (tissue < 150)
    fluid &= (np.abs(x) < 42) & (y > -78) & (y < 36) & (z > -28) & (z < 36)
    fluid &= ~((np.abs(x) <= 1.5) & (z < 8))  # the third ventricle joins the two
    parts, _ = ndimage.label(fluid)
    labels = np.zeros(t1.shape, np.uint8)
    for label, side in ((1, -12), (2, 12)):
        labels[parts == parts[tuple(np.array([side, -20, 22]) - ORIGIN)]] = label
    return labels


def hindbrain(t1: Volume, at: npt.NDArray[np.int_]) -> Volume:
    """Label cerebellum 3 and brain stem 4: a watershed along dark fissures from placed markers."""
    x, y, z = at
    side = np.abs(x)
    stem = [
        (side < 7) & (y > -40) & (y < -18) & (z < -9),
        (side < 15) & (y > -34) & (y < -18) & (z < -15) & (z > -48),
        (side < 17) & (y > -29) & (y < -18) & (z < -20) & (z > -48),
        (side < 10) & (y > -42) & (z < -50),
        (side < 9) & (y > -50) & (z < -62),
    ]
    cerebellum = [
        (side >= 8) & (side < 36) & (y > -78) & (y < -52) & (z < -30) & (z > -50),
        (side < 8) & (y > -75) & (y < -58) & (z < -20) & (z > -40),
        (side < 36) & (y < -50) & (z < -45),
    ]
    cerebrum = [
        z > 6,
        (side > 48) & (z > -22),
        (side > 12) & (y > -18),
        y > -5,
        (y < -80) & (z > -12),
        (y > -36) & (z > -6),
    ]
    markers = np.zeros(t1.shape, np.int32)
    for marker, boxes in enumerate((cerebrum, cerebellum, stem), 1):
        for box in boxes:
            markers[np.broadcast_to(box, t1.shape) & (t1 > 130)] = marker
    depth = 255 - ndimage.gaussian_filter(t1.astype(np.float32), 0.6)
    basins = watershed(depth, markers, mask=t1 > 0)
    labels = np.zeros(t1.shape, np.uint8)
    for label, basin, darkest in ((3, 2, 95), (4, 3, 110)):
        body = ndimage.binary_opening((basins == basin) & (t1 > darkest), iterations=2)
        parts, _ = ndimage.label(body)
        labels[parts == np.bincount(parts.ravel())[1:].argmax() + 1] = label
    return labels


def coronal(volume: Volume) -> Volume:
    """Cut the box and order it as slices of 2 mm from back to front, rows from top to bottom."""
    box = tuple(slice(*(np.array(ends) - o)) for ends, o in zip(BOX, ORIGIN, strict=True))
    return np.ascontiguousarray(np.transpose(volume[box], (1, 2, 0))[::2, ::-1])


def main() -> None:
    """Write the sample and say how large it became."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="folder with the template files")
    folder = parser.parse_args().folder or template_folder()
    t1, grey, white = (
        np.asanyarray(nib.load(folder / FILE.format(name)).dataobj) for name in ("t1", "gm", "wm")
    )
    at = [c + o for c, o in zip(np.ogrid[tuple(map(slice, t1.shape))], ORIGIN, strict=True)]
    fluid = ventricles(t1, grey.astype(int) + white, at)
    labels = np.where(fluid > 0, fluid, hindbrain(t1, at))
    np.savez_compressed(
        TARGET, image=coronal(t1), labels=coronal(labels), spacing=np.array([2.0, 1.0, 1.0])
    )
    sys.stdout.write(f"{TARGET.name}: {TARGET.stat().st_size / 1e6:.2f} MB\n")


if __name__ == "__main__":
    main()
