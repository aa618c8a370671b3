"""Volume: what every file format is read into, and how its axes are found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.arrays.axes import AxesView
from imos_core.errors import FileError, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

Spacing = tuple[float, float, float]
Place = int | tuple[int, int]
"""A time point; or one of the four axes t, z, y, x, by its number, and the place there."""

LOADED_AT_ONCE = 2**26
"""Compressed files up to this many bytes are decompressed into memory, others slice by slice."""

Interval = tuple[float, str | None]
"""A time, and its unit by its OME-NGFF name (``"second"``, ``"minute"``, ...)."""

_SPATIAL = 3
_NAMES = "tzyx"


@dataclass(frozen=True)
class Volume:
    """A volume or video, as read from a file."""

    array: Any
    """`(T, H, W)`, or `(T, H, W, C)` if `channels_last`; read lazily where the format allows it."""
    spacing: Spacing | None = None
    """Size of a voxel along the three axes, or None if the file does not say."""
    channels_last: bool = False
    """Whether the last axis holds colours."""
    unit: str | None = None
    """Unit of the spacing, by its OME-NGFF name (``"micrometer"``, ``"millimeter"``, ...); one that
    `formats.units` does not know is what the file calls it."""
    format: str = ""
    """Format that it was read from, as in `extra`."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What a file of the same format needs to say again: header, affine, offsets, names."""
    film: bool = False
    """Whether the first of its axes is time, and no third one of space."""
    interval: Interval | None = None
    """Time from one frame or volume of the file to the next, if it says so."""
    names: str = ""
    """One letter per axis of the array, of TIFF, NIfTI and OME-Zarr, ``n`` where it has no such
    name; empty of others."""
    levels: int = 1
    """Levels of resolution of the file."""
    labels: bool = False
    """Whether the file says that its values are labels."""
    places: int = 1
    """Places along the axis of the file that is held at a time point; 1 if none is."""

    @property
    def engine_spacing(self) -> tuple[float, ...] | None:
        """What `imos_core.propagate` is told: frames have a shape of pixels, but no thickness."""
        return in_time(self.spacing, 0) if self.film and self.spacing else self.spacing


class SingleVolumeError(FileError):
    """A time point was asked for where there is one volume or one video."""


class SeveralVolumesError(FileError):
    """One volume is wanted, but there are more axes."""


class FileAxes(AxesView):
    """Axes of an array in a file; what goes wrong in reading it is said in one sentence.

    Parameters
    ----------
    source, axes, at
        See `AxesView`.
    name : str
        Name of the file.
    """

    def __init__(
        self, source: Any, axes: Sequence[int], name: str, at: Mapping[int, int] | None = None
    ) -> None:
        super().__init__(source, axes, at)
        self._name = name

    def _read(self, where: tuple[Any, ...]) -> npt.NDArray[Any]:
        try:
            return super()._read(where)
        except Exception as error:  # codecs raise whatever they like
            raise FileError(
                f"{self._name} cannot be read ({first_line(error, 120)}): the file is damaged."
            ) from error


def time_point(names: str, shape: Sequence[int], time: Place | None, what: str) -> dict[int, int]:
    """Axis that is held and the index there; empty if none is chosen.

    Parameters
    ----------
    names : str
        One letter per axis. Time is there beside three others only; if none of four is called
        ``t``, it is the first.
    shape : sequence of int
        Shape of the array.
    time : int, (int, int) or None
        Time point, or a place on another axis, through which time goes.
    what : str
        Name of the file, for messages.

    Raises
    ------
    SingleVolumeError
        If there are no time points.
    FileError
        If there is none of that number.
    """
    if time is None:
        return {}
    names = names.lower()
    spatial = [i for i, n in enumerate(names) if n not in "cs"]
    if len(spatial) <= _SPATIAL:
        raise SingleVolumeError(f"{what} has no time points beside its slices: choose none.")
    number, place = (0, time) if isinstance(time, int) else time
    found = names.find(_NAMES[number])
    axis = spatial[number] if found < 0 else found
    if not 0 <= place < shape[axis]:
        kind = "slices" if number else "time points"
        raise FileError(f"{what} has {kind} 0 to {shape[axis] - 1}, not {place}: choose another.")
    return {axis: place}


def places_held(shape: Sequence[int], at: Mapping[int, int]) -> int:
    """Places along the axis that `time_point` holds; 1 if it holds none."""
    return max((int(shape[axis]) for axis in at), default=1)


def arrange(
    names: str,
    shape: Sequence[int],
    what: str,
    at: Mapping[int, int] | None = None,
    *,
    series: bool = False,
) -> tuple[tuple[int, ...], bool]:
    """Choose and order the axes of an array: three spatial ones, then channels.

    Parameters
    ----------
    names : str
        One letter per axis; ``c`` and ``s`` are channels.
    shape : sequence of int
        Shape of the array.
    what : str
        Name of the file, for messages.
    at : mapping of int to int, optional
        Axes that are held at one place (`time_point`).
    series : bool
        Whether a fourth axis beside the spatial ones may stay.

    Returns
    -------
    axes : tuple of int
        Axes to keep, in order; the others have length one or are held.
    channels_last : bool
        Whether the last of them holds channels.

    Raises
    ------
    SeveralVolumesError
        If more axes are longer than one.
    """
    names = names.lower()
    channels = [i for i, n in enumerate(names) if n in "cs"]
    spatial = [i for i in range(len(names)) if i not in channels and i not in (at or ())]
    channels = [i for i in channels if shape[i] > 1]
    # a slice axis of length one is worth keeping only while nothing else can take its place
    for i in [i for i in spatial if shape[i] == 1 and names[i] not in "yx"]:
        if len(spatial) > 3:
            spatial.remove(i)
    if len(spatial) == 2 and len(channels) == 1 and channels[0] < spatial[0]:
        # slices whose axis nobody named; some programs take three of them for colours
        spatial, channels = channels + spatial, []
    if len(spatial) > _SPATIAL + series or len(channels) > 1:
        sizes = ", ".join(f"{names[i]} {shape[i]}" for i in sorted(spatial + channels))
        most = "four" if series else "three"
        # a time point helps where none is chosen, time is in the way, and three axes are left
        helps = not (series or at) and len(spatial) == 4 and names.find("t") in (-1, *spatial)
        way = "choose a time point (--time), or " if helps else ""
        raise SeveralVolumesError(
            f"{what} has more than {most} axes ({sizes}): {way}save one volume of it as a file of "
            "its own."
        )
    return (*spatial, *channels), bool(channels)


def time_first(axes: Sequence[int], names: str) -> tuple[int, ...]:
    """Bring time before the axes of space, some of which files may store before it.

    Parameters
    ----------
    axes : sequence of int
        Axes that are kept, from `arrange`.
    names : str
        One letter per axis of the array.
    """
    return tuple(sorted(axes, key=lambda a: names[a].lower() != "t"))


def ordered(
    array: npt.NDArray[Any], axes: Sequence[int], at: Mapping[int, int] | None = None
) -> npt.NDArray[Any]:
    """View with the axes in another order; those left out have length one or are held at `at`."""
    rest = [a for a in range(array.ndim) if a not in axes]
    view = array.transpose(*axes, *rest)
    for a in reversed(rest):
        view = view[..., (at or {}).get(a, 0)]
    return view


def in_order(
    array: Any, axes: Sequence[int], name: str, at: Mapping[int, int] | None = None
) -> Any:
    """Return the axes of an array in another order, whether in memory or in a file of a name."""
    if isinstance(array, np.ndarray):
        return ordered(array, axes, at)
    return FileAxes(array, axes, name, at)


def guess_channels(shape: Sequence[int]) -> bool:
    """Whether an array without named axes looks like colours: four axes, the last of 3 or 4."""
    return len(shape) == 4 and shape[-1] in (3, 4)


def unnamed(
    shape: Sequence[int], time: Place | None, what: str
) -> tuple[tuple[int, ...], bool, dict[int, int]]:
    """Axes, whether the last holds colours, and `time_point`, of an array without named axes."""
    names = {4: "tzyx", 5: "tzyxc"}.get(len(shape), "zyx"[-len(shape) :])
    at = time_point(names, shape, time, what)
    axes = tuple(a for a in range(len(shape)) if a not in at)
    return axes, names.endswith("c") if at else guess_channels(shape), at


def names_time(name: str) -> bool:
    """Whether an axis is called time, by which it is no length."""
    return name.lower() in ("t", "time")


def in_time(spacing: Sequence[float], axis: int) -> tuple[float, ...]:
    """Return the shape of pixels where one axis is time, which is no length.

    Square ones are 1, 1, 1, by which the engine knows no distance of slices, as it was trained.
    """
    unit = next(size for a, size in enumerate(spacing) if a != axis)
    return tuple(1.0 if a == axis else size / unit for a, size in enumerate(spacing))


def positive(told: Any) -> float | None:
    """Return a number, or None if it is none, or not finite and positive."""
    try:
        value = float(told)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) and value > 0 else None


def usable(sizes: Sequence[Any]) -> Spacing | None:
    """Three sizes as a spacing, or None if they are not finite and positive."""
    values = [value for value in map(positive, sizes) if value is not None]
    if len(values) != 3 or len(sizes) != 3:
        return None
    return values[0], values[1], values[2]


def usable_interval(step: Any, unit: str | None) -> Interval | None:
    """Return a time with its unit, or None if it is not finite and positive."""
    value = positive(step)
    return None if value is None else (value, unit)
