"""Sources of labelled material for training: sequences, static images, synthetic volumes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image
from scipy import ndimage

from imos_core import synthetic
from imos_core.data.arrays import as_image, as_labels
from imos_core.data.manifest import sequence_entries
from imos_core.errors import FileError
from imos_core.formats.left_behind import visible
from imos_core.sequence_files import open_sequence, sequence_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Spacing

_REUSE = 12
"""How often a synthetic volume is drawn, on average."""
_MIN_SIDE = 24
"""Slices that a volume needs along every axis to be cut along any."""
_FEW = 10
"""Groups that are named in a line."""


@dataclass(frozen=True)
class LabelledVolume:
    """Slices or frames with the labels of all of them."""

    image: npt.NDArray[np.uint8]
    """`(T, H, W)` or `(T, H, W, 3)`; a single image has T = 1."""
    labels: npt.NDArray[np.integer]
    """`(T, H, W)`, 0 is background."""
    isotropic: bool = False
    """Whether it may be cut along any axis."""

    @cached_property
    def extents(self) -> dict[int, tuple[slice, slice, slice]]:
        """Bounding box of every object, by label."""
        boxes = ndimage.find_objects(self.labels.astype(np.int32, copy=False))
        return {i + 1: box for i, box in enumerate(boxes) if box is not None}


class Source(Protocol):
    """Where training material comes from."""

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        ...

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of what may be drawn more often than the rest of it."""
        ...

    def draw(self, rng: np.random.Generator) -> LabelledVolume:
        """Return one volume (or one image, with T = 1)."""
        ...


class SequenceSource:
    """Volumes and videos in ``.npz`` files (arrays `image`, `labels`, `spacing`), kept in memory.

    Images that are not in bytes are stretched to them (`as_bytes`).

    Parameters
    ----------
    folder : Path
        Folder with ``<modality>/<name>.npz``.
    names : set of str, optional
        Only these ``<modality>/<name>``.
    emphasis : mapping, optional
        How many times as often a modality is drawn as it would be.

    Raises
    ------
    FileError
        If nothing is found or labelled, or a file cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        names: set[str] | None = None,
        emphasis: Mapping[str, float] | None = None,
    ) -> None:
        groups: dict[str, list[LabelledVolume]] = {}
        for path in visible(folder, "*/*.npz"):
            modality = path.parent.name
            if names is not None and f"{modality}/{path.stem}" not in names:
                continue
            with open_sequence(path) as file:
                arrays = sequence_arrays(file)
            spacing, labels = arrays.spacing, as_labels(arrays.labels)
            image = as_image(arrays.image, labels, colours=arrays.image.ndim == 4)
            isotropic = is_isotropic(image, told_spacing(spacing, modality))
            groups.setdefault(modality, []).append(LabelledVolume(image, labels, isotropic))
        if not groups:
            raise FileError(f"No training sequences were found in {folder}: give another folder.")
        if not any(volume.labels.any() for group in groups.values() for volume in group):
            raise FileError(f"No sequence in {folder} has a label above 0: give some with objects.")
        self.name = str(folder)
        self.groups = tuple(groups)
        self._groups = list(groups.values())
        self._weights = _shares(groups, emphasis)

    def draw(self, rng: np.random.Generator) -> LabelledVolume:
        """Draw a modality, then a volume of it."""
        group = self._groups[rng.choice(len(self._groups), p=self._weights)]
        return group[rng.integers(len(group))]


def told_spacing(spacing: Spacing, modality: str) -> Spacing | None:
    """Return what a sequence file says of its voxels: sizes of 1 say nothing, but in MRI."""
    return spacing if spacing != (1, 1, 1) or modality == "mri" else None


def is_isotropic(image: npt.NDArray[np.generic], spacing: Spacing | None) -> bool:
    """Whether a volume may be cut along any axis, as its voxels are cubes.

    Parameters
    ----------
    image : ndarray
        `(T, H, W)`, or `(T, H, W, 3)`, which is never cut otherwise.
    spacing : tuple of float or None
        Size of a voxel; None if nothing is known of it, or the first axis is time.
    """
    if spacing is None or image.ndim != 3:
        return False
    return max(spacing) / min(spacing) < 1.05 and min(image.shape) >= _MIN_SIDE


class StaticSource:
    """Single images ``<id>.jpg`` with label maps ``<id>.png`` in one folder per origin.

    Parameters
    ----------
    folder : Path
        Folder of folders.
    emphasis : mapping, optional
        How many times as often an origin is drawn as it would be.

    Raises
    ------
    FileError
        If nothing is found or labelled, or a label map is missing.
    """

    def __init__(self, folder: Path, emphasis: Mapping[str, float] | None = None) -> None:
        groups: dict[str, list[Path]] = {}
        for path in visible(folder, "*/*.jpg"):
            groups.setdefault(path.parent.name, []).append(path)
        if not groups:
            raise FileError(f"No training images were found in {folder}: give another folder.")
        _check_label_maps(folder, [path for group in groups.values() for path in group])
        self.name = str(folder)
        self.groups = tuple(groups)
        self._groups = list(groups.values())
        self._weights = _shares(groups, emphasis)

    def draw(self, rng: np.random.Generator) -> LabelledVolume:
        """Draw an origin, then an image of it.

        Raises
        ------
        FileError
            If it, or its label map, cannot be read.
        """
        group = self._groups[rng.choice(len(self._groups), p=self._weights)]
        image, labels = open_picture(group[rng.integers(len(group))])
        return LabelledVolume(image[None], labels[None])


def open_picture(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer]]:
    """Read ``<id>.jpg`` and the label map ``<id>.png`` beside it.

    Parameters
    ----------
    path : Path
        The image.

    Returns
    -------
    image : ndarray of uint8
        `(H, W)` or `(H, W, 3)`.
    labels : ndarray of int
        `(H, W)`.

    Raises
    ------
    FileError
        If one of them is missing or damaged, or they do not match.
    """
    indexed = path.with_suffix(".png")
    # a palette image yields its indices, which are the labels
    image, labels = read_picture(path), _pixels(indexed, lambda picture: picture)
    if labels.shape != image.shape[:2]:
        raise FileError(
            f"{indexed} has shape {labels.shape}, but {path} has {image.shape}: labels need one "
            "integer per pixel of the image."
        )
    return image, labels


def _check_label_maps(folder: Path, pictures: Sequence[Path]) -> None:
    """Refuse pictures of which one has no label map, or none has an object."""
    there = set(folder.glob("*/*.png"))
    if missing := [path for path in pictures if path.with_suffix(".png") not in there]:
        raise FileError(
            f"{missing[0].with_suffix('.png')} cannot be read: it is missing (one of "
            f"{len(missing)} label maps). Add them, or move their images away."
        )
    # as a rule the first one has
    if not any(open_picture(path)[1].any() for path in pictures):
        raise FileError(f"No label map in {folder} has a label above 0: give some with objects.")


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture in bytes, `(H, W)` or `(H, W, 3)`.

    Raises
    ------
    FileError
        If it is missing or damaged.
    """
    return _pixels(path, lambda picture: picture if picture.mode == "L" else picture.convert("RGB"))


def _pixels(path: Path, as_wanted: Callable[[Image.Image], Image.Image]) -> npt.NDArray[Any]:
    try:
        with Image.open(path) as picture:
            return np.asarray(as_wanted(picture))
    except Exception as error:  # decoders raise whatever they like
        said = "it is missing" if not path.exists() else "it is damaged, or no image"
        raise FileError(f"{path} cannot be read: {said}.") from error


class SyntheticSource:
    """Synthetic volumes with exact truth, made on the fly and reused a few times each."""

    name = "synthetic volumes"

    def __init__(
        self,
        shape: tuple[int, int, int] = (24, 144, 144),
        emphasis: Mapping[str, float] | None = None,
    ) -> None:
        self.groups = tuple(synthetic.KINDS)
        self._kinds = _shares(dict.fromkeys(synthetic.KINDS, ("",)), emphasis)
        self._shape = shape
        self._pool: list[LabelledVolume] = []

    def draw(self, rng: np.random.Generator) -> LabelledVolume:
        """Return a volume of the pool, renewing one of its members now and then."""
        if len(self._pool) < 8 or rng.random() < 1 / _REUSE:
            kind = synthetic.KINDS[rng.choice(len(synthetic.KINDS), p=self._kinds)]
            image, labels = synthetic.synthetic_volume(kind, self._shape, int(rng.integers(2**31)))
            if len(self._pool) >= 32:
                self._pool.pop(0)
            self._pool.append(LabelledVolume(image, labels))
        return self._pool[rng.integers(len(self._pool))]


def _shares(
    groups: Mapping[str, Sequence[object]], emphasis: Mapping[str, float] | None
) -> npt.NDArray[np.float64]:
    # between "every member alike" and "every group alike"
    sizes = [np.sqrt(len(g)) * (emphasis or {}).get(name, 1.0) for name, g in groups.items()]
    if not sum(sizes) > 0:
        raise FileError(
            f"The setting emphasis leaves nothing of {', '.join(groups)}: give one of them more "
            "than 0, or the whole material the weight 0."
        )
    shares: npt.NDArray[np.float64] = np.array(sizes) / sum(sizes)
    return shares


def sequence_names(
    folder: Path, licences: tuple[str, ...], modalities: tuple[str, ...] = ()
) -> set[str] | None:
    """Choose sequences by the manifest's licence class and by modality; None: all of them.

    Parameters
    ----------
    folder : Path
        Folder with ``<modality>/<name>.npz``; ``manifest.json``, if any, is one level up.
    licences : tuple of str
        Classes that are allowed, where there is a manifest.
    modalities : tuple of str
        Folders that are allowed; empty: all.
    """
    classes = _licence_classes(folder)
    if classes is not None:
        names = {name for name, use in classes.items() if use in licences}
    elif modalities:
        names = _names_in(folder)
    else:
        return None
    return {n for n in names if not modalities or n.split("/")[0] in modalities}


def refuse_empty_choice(
    folder: Path,
    names: set[str] | None,
    licences: tuple[str, ...],
    modalities: tuple[str, ...] = (),
) -> None:
    """Refuse a choice of `sequence_names` that leaves nothing, of all or of one modality.

    Raises
    ------
    FileError
        With what was asked for, and what there is.
    """
    there = _names_in(folder)
    left = there if names is None else there & names
    missing = [m for m in modalities if not any(n.split("/")[0] == m for n in left)]
    if not there or (left and not missing):
        return  # whoever opens an empty folder says so
    classes = _licence_classes(folder)
    groups: Counter[str] = Counter()
    for name in sorted(there):
        use = "" if classes is None else f" ({classes.get(name, 'not in the manifest')})"
        groups[name.split("/")[0] + use] += 1
    known = [f"{count} of {group}" for group, count in groups.items()]
    of = f" of {', '.join(missing)}" if missing else ""
    under = "" if classes is None else f" under the licences {', '.join(licences) or '(none)'}"
    raise FileError(
        f"No sequences{of} may be used{under} in {folder}, which has {', '.join(known[:_FEW])}"
        f"{', ...' if len(known) > _FEW else ''}: set modalities and licences accordingly."
    )


def _names_in(folder: Path) -> set[str]:
    return {f"{p.parent.name}/{p.stem}" for p in visible(folder, "*/*.npz")}


def _licence_classes(folder: Path) -> dict[str, str] | None:
    """Classes of sequences by the manifest beside a folder; None where there is none."""
    entries = sequence_entries(folder)
    return None if entries is None else {name: e["use"] for name, e in entries.items()}
