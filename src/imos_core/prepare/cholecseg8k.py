"""CholecSeg8k: clips of keyhole surgery, 80 frames each, with tissues and instruments."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from imos_core.errors import FileError
from imos_core.prepare.recording import Case, Category, Dataset, Recording, Warn, listed
from imos_core.prepare.sources import files_below

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

_CLASSES = (
    # name, grey value in the watershed and annotation masks, colour in the colour mask
    ("background", 50, 0x7F7F7F),
    ("abdominal wall", 11, 0xD28C8C),
    ("liver", 21, 0xFF7272),
    ("gastrointestinal tract", 13, 0xE7469C),
    ("fat", 12, 0xBAB74B),
    ("grasper", 31, 0xAAFF00),
    ("connective tissue", 23, 0xFF5500),
    ("blood", 24, 0xFF0000),
    ("cystic duct", 25, 0xFFFF00),
    ("l-hook electrocautery", 32, 0xA9FFB8),
    ("gallbladder", 22, 0xFFA0A5),
    ("hepatic vein", 33, 0x003280),
    ("liver ligament", 5, 0x6F4A00),
)
_UNLABELLED = (0, 255, 0xFFFFFF)
"""Pixels that nobody labelled, and the line around the picture."""

_STRAY = {35, 36}
"""Grey values that a few frames of the original have without meaning."""
_CLIP_FRAMES = 80
_CLIP = re.compile(r"(video\d+)_0*(\d+)", re.IGNORECASE)
_FILE = re.compile(r"frame_0*(\d+)_endo(_watershed_mask|_mask|_color_mask)?\.png", re.IGNORECASE)
_MASKS = ("_watershed_mask", "_color_mask", "_mask")
"""Masks by preference: the annotation mask leaves most pixels out."""

Frames = dict[int, dict[str, "Path"]]
"""Files of a clip, by frame and kind; the kind of the image is empty."""

Mask = tuple["npt.NDArray[np.int32]", bool]
"""Grey values, or colours as 0xRRGGBB, and whether they are colours."""


def find(source: Path, warn: Warn) -> list[Case]:
    """Find the clips: folders ``videoNN_FFFFF`` with ``frame_N_endo.png`` and masks.

    Raises
    ------
    FileError
        If there are none.
    """
    clips: dict[str, Frames] = {}
    folders: dict[str, Path] = {}
    twins: set[Path] = set()
    for path in files_below(source):
        clip, frame = _CLIP.fullmatch(path.parent.name), _FILE.fullmatch(path.name)
        if clip is None or frame is None:
            continue
        name = path.parent.name.lower()
        if folders.setdefault(name, path.parent) != path.parent:
            if path.parent not in twins:
                warn(f"{path.parent} is left out: {folders[name]} is the same clip.")
            twins.add(path.parent)
            continue
        kind = (frame[2] or "").lower()
        clips.setdefault(name, {}).setdefault(int(frame[1]), {})[kind] = path
    if not clips:
        raise FileError(
            f"{source} holds no CholecSeg8k clips: it needs video01/video01_00080/"
            "frame_80_endo.png and frame_80_endo_watershed_mask.png."
        )
    return [
        Case(name, _video(name), "endo", partial(_load, name, clips[name], warn))
        for name in sorted(clips)
    ]


def _video(clip: str) -> str:
    """Video of a clip, which is one patient; ``video1`` and ``video01`` are the same."""
    return f"video{int(clip.split('_')[0].removeprefix('video')):02d}"


def _load(name: str, frames: Frames, warn: Warn) -> Recording:
    images: list[npt.NDArray[np.uint8]] = []
    masks: list[Mask] = []
    wrong: list[int] = []
    for number in _complete(name, frames, warn):
        files = frames[number]
        try:
            with Image.open(files[""]) as picture:
                image = np.asarray(picture.convert("RGB"))
            mask = _read_mask(files)
        except Exception:  # Pillow raises whatever it likes
            wrong.append(number)
            continue
        if image.shape[:2] != mask[0].shape or (images and image.shape != images[0].shape):
            wrong.append(number)
            continue
        images.append(image)
        masks.append(mask)
    if wrong:
        plural = "s" if len(wrong) > 1 else ""
        warn(
            f"{name}: frame{plural} {listed(wrong)} cannot be read, or image and mask differ in "
            "size; left out."
        )
    if not images:
        raise FileError("none of its frames has both an image and a mask.")
    labels = _classes(name, masks, warn)
    objects = {
        k: (_CLASSES[k][0].replace(" ", "_"), Category(_CLASSES[k][0]))
        for k in range(1, len(_CLASSES))
        if (labels == k).any()
    }
    return Recording(np.stack(images), labels, objects, (1.0, 1.0, 1.0), "pixel", "t")


def _complete(name: str, frames: Frames, warn: Warn) -> list[int]:
    """Frames that have an image and a mask, in order; says which are missing."""
    complete = {n for n, files in frames.items() if "" in files and len(files) > 1}
    start = int(name.split("_")[1])
    expected = set(range(start, start + _CLIP_FRAMES))
    if not set(frames) <= expected:  # numbered in another way
        expected = set(range(min(frames), max(frames) + 1))
    if missing := sorted(expected - complete):
        warn(
            f"{name}: {len(missing)} of {len(expected)} frames lack their image or mask "
            f"({listed(missing)}); the others are used."
        )
    return sorted(complete)


def _read_mask(files: dict[str, Path]) -> Mask:
    """Read the best mask of a frame."""
    kind = next(k for k in _MASKS if k in files)
    with Image.open(files[kind]) as picture:
        if kind == "_color_mask":
            colours = np.asarray(picture.convert("RGB")).astype(np.int32)
            return (colours << (16, 8, 0)).sum(-1, dtype=np.int32), True
        # all channels are alike, and an alpha channel says nothing
        grey = picture if picture.mode in ("L", "LA") else picture.convert("RGB")
        values = np.asarray(grey)
    return (values if values.ndim == 2 else values[..., 0]).astype(np.int32), False


def _classes(name: str, masks: Sequence[Mask], warn: Warn) -> npt.NDArray[np.uint8]:
    """Number of the class of every pixel, `(T, H, W)`; what is not known is background."""
    met: set[int] = set()
    for values, coloured in masks:
        if not coloured:
            met |= set(np.unique(values).tolist())
    greys = {grey: k for k, (_, grey, _) in enumerate(_CLASSES)}
    hexadecimal = {int(str(grey), 16): k for grey, k in greys.items()}
    if met & (set(hexadecimal) - set(greys) - _STRAY) and not met & (set(greys) - set(hexadecimal)):
        warn(f"{name}: grey values are the documented ones read as hexadecimal numbers.")
        greys = hexadecimal
    colours = {colour: k for k, (_, _, colour) in enumerate(_CLASSES)}
    unknown: set[str] = set()
    planes = []
    for values, coloured in masks:
        table = colours if coloured else greys
        present, places = np.unique(values, return_inverse=True)
        for value in present.tolist():
            if value not in table and value not in _UNLABELLED:
                unknown.add(f"#{value:06x}" if coloured else str(value))
        found = np.array([table.get(v, 0) for v in present.tolist()], np.uint8)
        planes.append(found[places.reshape(values.shape)])
    if unknown:
        plural = "s" if len(unknown) > 1 else ""
        warn(f"{name}: unknown label value{plural} {listed(sorted(unknown))}, taken as background.")
    return np.stack(planes)


DATASET = Dataset("cholecseg8k", find, "research", "CC BY-NC-SA 4.0")
