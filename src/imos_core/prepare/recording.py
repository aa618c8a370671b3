"""What a reader of a data set yields: recordings of patients, with the objects in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.formats.volume import Spacing

Warn = Callable[[str], None]
"""Told of everything that is left out, one sentence each."""

_SHOWN = 6


@dataclass(frozen=True)
class Category:
    """What an object is."""

    name: str
    """Such as ``"left kidney"``."""
    seen: bool = True
    """Whether it is trained on; the categories with a star in the paper's Table 3 are not."""
    window: tuple[float, float] | None = None
    """Intensities shown as black and white; None: those of the whole recording."""


@dataclass(frozen=True)
class Recording:
    """A volume or video with the labels of every frame."""

    image: npt.NDArray[np.generic]
    """`(T, H, W)` of any real dtype, or `(T, H, W, 3)` uint8."""
    labels: npt.NDArray[np.integer]
    """`(T, H, W)`; values that are not in `objects` are background."""
    objects: dict[int, tuple[str, Category]]
    """By label: what tells its sequence from the others of the recording, and its category."""
    spacing: Spacing
    """Size of a voxel, frame axis first."""
    unit: str
    """Unit of the spacing in the frame; ``"pixel"`` where the data set does not know."""
    axis: Literal["z", "t"] = "z"
    """What the frames are: ``z``, slices of a volume, or ``t``, moments."""


@dataclass(frozen=True)
class Case:
    """A recording that is there, not read yet."""

    name: str
    """Name, unique in the data set."""
    patient: str
    """Patient (or animal, or video) that it shows; no patient is in two splits."""
    modality: str
    """Folder that it goes to: ``ct``, ``mri``, ``us``, ``endo``, ``em``."""
    load: Callable[[], Recording]
    """Reads it; raises `FileError` if it cannot be read."""
    split: str | None = None
    """Split that the data set itself prescribes."""


@dataclass(frozen=True)
class Dataset:
    """A public data set."""

    name: str
    """As in ``imos prepare NAME``."""
    find: Callable[[Path, Warn], list[Case]]
    """Finds its recordings in a folder; raises `FileError` if there are none."""
    use: str
    """Licence class of the manifest: ``open`` (any use) or ``research``."""
    licence: str
    """Terms of the data set, as its makers state them."""


def listed(values: Sequence[object]) -> str:
    """Values for a message, the first few of them."""
    shown = ", ".join(str(v) for v in values[:_SHOWN])
    return shown + (f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def known_labels(
    labels: npt.NDArray[np.integer], known: set[int], name: str, warn: Warn
) -> set[int]:
    """Return the values that are there, and say which of them mean nothing.

    Parameters
    ----------
    labels : ndarray of int
        Labels of a recording.
    known : set of int
        Values that the data set defines, background included.
    name : str
        Recording, for the message.
    warn : callable
        Told of values that are not known.
    """
    values = {int(v) for v in np.unique(labels)}
    if unknown := sorted(values - known):
        plural = "s" if len(unknown) > 1 else ""
        warn(f"{name}: unknown label value{plural} {listed(unknown)}, taken as background.")
    return values & known
