"""Training material in ordinary folders: images beside labels, as people keep them."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from imos_core.data.arrays import as_image, as_labels
from imos_core.data.sources import LabelledVolume, is_isotropic
from imos_core.errors import FileError
from imos_core.formats import images, omezarr
from imos_core.formats.affines import check_affines
from imos_core.formats.volume import SeveralVolumesError, Volume
from imos_core.io import read_labels, read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


LAYOUTS = (("images", "labels"), ("imagesTr", "labelsTr"), ("JPEGImages", "Annotations"))
"""Names of the folder of images and of that of labels: our own, nnU-Net's, that of DAVIS."""

_VOLUMES = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".nii.gz", ".nii", ".npy")
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_ZARR = (".ome.zarr", ".zarr")
_CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net: case_0000 and case_0001 are two contrasts of a case
_FEWEST_SLICES = 16  # a tile keeps so many, or a clip would hardly fit in
_EMPTY_DRAWS = 200


@dataclass(frozen=True)
class Pair:
    """An image and its labels, each a file or a folder of slices."""

    image: Path
    """Image, volume or video."""
    labels: Path
    """Its labels."""


class FolderSource:
    """Pairs of images and labels in folders, read when drawn, of which as many are kept as fit.

    A folder has one of the `LAYOUTS`. In both of its halves are TIFF, NIfTI, OME-Zarr or npy
    files, folders of slices, or single pictures, and those that belong together have the same
    name (the image may have nnU-Net's ``_0000`` on top). A video may have labels for some of its
    frames only; it then consists of these. In a volume what is not labelled is background.

    Parameters
    ----------
    folders : sequence of Path
        Folders.
    keep_mb : int
        How many megabytes of volumes stay in memory (of each process that makes batches).
    largest : int
        Voxels that are read at once; of larger volumes, tiles of so many are drawn.
    reuse : int
        Where not everything fits: how often what is kept is drawn before something else is read.

    Raises
    ------
    FileError
        If a folder has no pairs or an image no label, or if the first pair cannot be read.
    """

    groups: tuple[str, ...] = ()

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        keep_mb: int = 512,
        largest: int = 2**25,
        reuse: int = 12,
    ) -> None:
        if not folders:
            raise FileError("No folder of images and labels was named: name at least one.")
        self.name = ", ".join(str(folder) for folder in folders)
        self._groups = [find_pairs(folder) for folder in folders]
        weights = np.sqrt([len(g) for g in self._groups])
        self._weights = weights / weights.sum()
        self._room, self._largest, self._reuse = keep_mb * 10**6, largest, reuse
        self._kept: OrderedDict[Pair, tuple[LabelledVolume, bool]] = OrderedDict()
        self._crowded = False
        # what is wrong with all pairs of a folder shows here, not in the middle of the training
        for group in self._groups:
            self._keep(group[0], *read_pair(group[0], np.random.default_rng(0), largest))

    def draw(self, rng: np.random.Generator) -> LabelledVolume:
        """Draw a folder, then a volume of it that has an object.

        Raises
        ------
        FileError
            If a pair cannot be read or does not match, or nothing is labelled.
        """
        for _ in range(_EMPTY_DRAWS):
            volume = self._draw(rng)
            if volume.extents:
                return volume
        raise FileError(
            f"{_EMPTY_DRAWS} draws from {self.name} met no label above 0: check that the labels "
            "hold objects."
        )

    def _draw(self, rng: np.random.Generator) -> LabelledVolume:
        group = self._groups[rng.choice(len(self._groups), p=self._weights)]
        pair = group[rng.integers(len(group))]
        if pair not in self._kept and self._crowded and rng.random() > 1 / self._reuse:
            # reading takes a hundred times longer than cutting a clip
            pair = list(self._kept)[rng.integers(len(self._kept))]
        volume, is_tile = self._kept.get(pair, (None, False))
        if volume is None or (is_tile and rng.random() < 1 / self._reuse):
            volume, is_tile = read_pair(pair, rng, self._largest)
            self._keep(pair, volume, is_tile)
        self._kept.move_to_end(pair)
        return volume

    def _keep(self, pair: Pair, volume: LabelledVolume, is_tile: bool) -> None:
        self._kept[pair] = volume, is_tile
        held = sum(v.image.nbytes + v.labels.nbytes for v, _ in self._kept.values())
        while held > self._room and len(self._kept) > 1:
            _, (oldest, _) = self._kept.popitem(last=False)
            held -= oldest.image.nbytes + oldest.labels.nbytes
            self._crowded = True


def find_pairs(folder: Path) -> list[Pair]:
    """Pair the images of a folder with their labels, by name.

    Raises
    ------
    FileError
        If there are none, or an image has no label.
    """
    halves = {p.name.lower(): p for p in folder.iterdir()} if folder.is_dir() else {}
    pairs: list[Pair] = []
    for image_half, label_half in LAYOUTS:
        if image_half.lower() not in halves or label_half.lower() not in halves:
            continue
        root = halves[label_half.lower()]
        labels = dict(_entries(root))
        for name, path in _entries(halves[image_half.lower()]):
            match = labels.get(name) or labels.get(_CHANNEL.sub("", name))
            if match is None:
                raise FileError(f"{path} has no labels: {root} needs a file of the same name.")
            pairs.append(Pair(path, match))
    if not pairs:
        wanted = ", ".join(f"{i}/ and {j}/" for i, j in LAYOUTS)
        raise FileError(
            f"{folder} holds no pairs of images and labels: it needs two folders ({wanted}) with "
            "files of the same names."
        )
    return pairs


def read_pair(
    pair: Pair, rng: np.random.Generator, largest: int = 2**25
) -> tuple[LabelledVolume, bool]:
    """Read an image and its labels, or a tile drawn from them.

    Parameters
    ----------
    pair : Pair
        What to read.
    rng : Generator
        Draws the tile.
    largest : int
        Voxels of a tile.

    Returns
    -------
    volume : LabelledVolume
        Intensities in bytes: those of other types are stretched between the 0.5 and 99.5
        percentiles near the objects, as at inference.
    is_tile : bool
        Whether there is more of it.

    Raises
    ------
    FileError
        If one cannot be read, or they do not match.
    PromptError
        If the labels are none.
    """
    image, labels = _open(pair.image), _open(pair.labels, labels=True)
    if labels.channels_last:
        raise FileError(f"{pair.labels} holds colours: labels need one integer per pixel.")
    image, labels = _same_frames(pair, image, labels)
    shape = tuple(labels.array.shape)
    seen = tuple(image.array.shape)
    if len(shape) != 3 or seen[: len(seen) - image.channels_last] != shape:
        raise FileError(
            f"{pair.image} has shape {seen}, but {pair.labels} has {shape}: both must show the "
            "same slices."
        )
    check_affines(pair.image, image, pair.labels, labels)
    where = _tile((shape[0], shape[1], shape[2]), largest, rng)
    truth = as_labels(np.asarray(labels.array[where]))
    pixels = as_image(np.asarray(image.array[where]), truth, colours=image.channels_last)
    # frames are not turned across time
    spacing = None if image.film else image.spacing or labels.spacing
    volume = LabelledVolume(pixels, truth, is_isotropic(pixels, spacing))
    return volume, any(w.stop - w.start < n for w, n in zip(where, shape, strict=True))


def _entries(half: Path, above: str = "") -> Iterator[tuple[str, Path]]:
    """Volumes, pictures and folders of slices, with the names by which they are matched."""
    for path in sorted(half.iterdir()):
        name = path.name.lower()
        if name.startswith("."):
            continue
        if not path.is_dir():
            suffix = next((s for s in _VOLUMES + _PICTURES if name.endswith(s)), None)
            if suffix is not None:
                yield above + name.removesuffix(suffix), path
        elif name.endswith(_ZARR) or any((path / mark).is_file() for mark in omezarr.MARKS):
            yield above + name.removesuffix(".zarr").removesuffix(".ome"), path
        elif any(f.suffix.lower() in images.SUFFIXES for f in path.iterdir()):
            yield above + name, path
        else:  # such as JPEGImages/480p/<video>
            yield from _entries(path, f"{above}{name}/")


def _open(path: Path, *, labels: bool = False) -> Volume:
    """Open a volume, or a picture as a volume of one slice."""
    if not path.is_dir() and path.suffix.lower() in _PICTURES:
        picture = images.ImageFolder([path], labels=labels)
        return Volume(picture, None, picture.ndim == 4, None, "picture")
    try:
        volume = read_labels(path) if labels else read_volume(path)
    except SeveralVolumesError as error:
        raise FileError(
            f"{path} holds more than one volume: training draws from files of one volume each, so "
            "save them one by one."
        ) from error
    if len(volume.array.shape) - volume.channels_last == 2:
        return replace(volume, array=np.asarray(volume.array)[None])
    return volume


def _same_frames(pair: Pair, image: Volume, labels: Volume) -> tuple[Volume, Volume]:
    """Keep those frames of a video that are labelled; other volumes stay as they are."""
    if image.format != "images" or labels.format != "images":
        return image, labels
    seen, painted = list(image.extra["names"]), list(labels.extra["names"])
    common = set(seen) & set(painted)
    if not common and len(seen) == len(painted):
        return image, labels  # numbered in two ways
    if not common:
        raise FileError(
            f"No image in {pair.labels} is named like one in {pair.image}: give labels the names "
            "of their frames."
        )
    kept = [
        images.ImageFolder(_files(path, [n for n in names if n in common]), labels=of_labels)
        for path, names, of_labels in ((pair.image, seen, False), (pair.labels, painted, True))
    ]
    return (
        Volume(kept[0], None, image.channels_last, None, "images"),
        Volume(kept[1], None, False, None, "images"),
    )


def _files(folder: Path, names: list[str]) -> list[Path]:
    files = {f.stem: f for f in folder.iterdir() if f.suffix.lower() in images.SUFFIXES}
    return [files[name] for name in names]


def _tile(
    shape: tuple[int, int, int], largest: int, rng: np.random.Generator
) -> tuple[slice, slice, slice]:
    """Draw a part of a volume; all of it if it is small enough.

    Whole slices as long as enough of them fit, then parts of slices.
    """
    slices, height, width = shape
    slices = min(slices, max(largest // (height * width), _FEWEST_SLICES))
    if slices * height * width > largest:
        side = max(int((largest / slices) ** 0.5), 1)
        height = min(height, max(side, largest // (slices * width)))
        width = min(width, max(largest // (slices * height), 1))
    sizes = (slices, height, width)
    starts = [int(rng.integers(n - size + 1)) for n, size in zip(shape, sizes, strict=True)]
    z, y, x = (slice(a, a + size) for a, size in zip(starts, sizes, strict=True))
    return z, y, x
