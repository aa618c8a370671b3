"""Walk: which axis of a layer is walked, and which part of the other axes is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import PromptError
from imos_core.formats.volume import names_time
from imos_core.label_ids import ids_on as ids_on
from napari_imos._units import factors, units_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    Index = tuple[int | slice, ...]

_SHORT = 4  # slices of an axis without a name that more likely holds channels


@dataclass(frozen=True)
class Walk:
    """Slices of a layer, one after another along one axis."""

    ndim: int
    """Axes of the layer."""
    axis: int
    """Axis that is walked."""
    fixed: tuple[tuple[int, int], ...] = ()
    """Axes that stay where they are, with their position; of the others, two make the slice."""

    @classmethod
    def from_plain(cls, entry: Mapping[str, Any]) -> Walk:
        """Make the walk that `plain` has told of.

        Raises
        ------
        KeyError, TypeError, ValueError
            If an entry tells of none.
        """
        fixed = tuple((int(a), int(k)) for a, k in entry["fixed"])
        return cls(int(entry["ndim"]), int(entry["axis"]), fixed)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        fixed = [list(pair) for pair in self.fixed]
        return {"ndim": self.ndim, "axis": self.axis, "fixed": fixed}

    def at(self, index: int | slice) -> Index:
        """Basic index of one slice in the layer's data; ``slice(None)``: of all slices."""
        where: list[int | slice] = [slice(None)] * self.ndim
        for axis, position in self.fixed:
            where[axis] = position
        where[self.axis] = index
        return tuple(where)

    def positions(self, index: int) -> tuple[tuple[int, int], ...]:
        """Axes on which one slice has a position of its own, with the position."""
        return ((self.axis, index),)

    @property
    def kept(self) -> tuple[int, ...]:
        """The three axes that are not fixed, ascending."""
        fixed = dict(self.fixed)
        return tuple(a for a in range(self.ndim) if a not in fixed)

    @property
    def engine_axis(self) -> int:
        """Position of the walked axis among the kept ones."""
        return self.kept.index(self.axis)


def axis_names(layer: Layer) -> list[str]:
    """Name every axis of a layer, ``"axis 0"`` where the layer has no name for it."""
    names = [str(name) for name in layer.axis_labels]
    return [f"axis {a}" if _is_default(name) else name for a, name in enumerate(names)]


def slider_names(layer: Layer, viewer: ViewerModel) -> list[str]:
    """Name every axis of a layer so that a person finds its slider: ``"axis 0 (-3)"`` at worst."""
    names = axis_names(layer)
    for a, slider in enumerate(viewer.dims.axis_labels[-layer.ndim :]):
        if names[a] == f"axis {a}":
            default = _is_default(slider)
            names[a] = f"axis {a} ({slider.removeprefix('axis ')})" if default else slider
    return names


def are_unnamed(layer: Layer) -> bool:
    """Whether no axis of a layer has a name."""
    return axis_names(layer) == [f"axis {a}" for a in range(layer.ndim)]


def is_time(layer: Layer, axis: int) -> bool:
    """Whether an axis is called time, by which it is no length."""
    return names_time(axis_names(layer)[axis])


def read_axis(labels: Labels, axis: int | str) -> int:
    """Turn an axis of a Labels layer, by number or name, into a number from 0.

    Raises
    ------
    PromptError
        If the layer has no such axis.
    """
    if isinstance(axis, str):
        names = axis_names(labels)
        if axis in names:
            return names.index(axis)
        raise PromptError(f"There is no axis {axis!r}: the Labels layer has {', '.join(names)}.")
    if not -labels.ndim <= axis < labels.ndim:
        raise PromptError(
            f"Axis {axis} is out of range: the Labels layer has axes 0 to {labels.ndim - 1}."
        )
    return int(axis) % labels.ndim


def shown_axis(layer: Layer, viewer: ViewerModel, but: int | None = None) -> int:
    """Axis of a layer that the viewer's slider walks: the last one before the displayed plane.

    Not one of a single slice, if there is another one. One without a name that is very short may
    hold channels: then the next one that is longer.

    Parameters
    ----------
    layer : Layer
        Layer.
    viewer : ViewerModel
        Viewer.
    but : int, optional
        Axis that is not meant, if there is another one.
    """
    shape, before = shape_of(layer), _layer_order(layer, viewer)[:-2][::-1]
    axes = [a for a in before if a != but] or before
    axes = [a for a in axes if shape[a] > 1] or axes or [0]
    nearest = axes[0]
    if are_unnamed(layer) and shape[nearest] <= _SHORT:
        return next((a for a in axes if shape[a] > shape[nearest]), nearest)
    return nearest


def position(layer: Layer, viewer: ViewerModel) -> tuple[int, ...]:
    """Voxel of a layer at which the viewer's sliders stand, clipped to the layer."""
    given = np.asarray(viewer.dims.point, float)[-layer.ndim :]
    # a layer that was just removed may have more axes than what is left
    point = np.pad(given, (layer.ndim - len(given), 0))
    units, sliders = (units_of(counts, layer.ndim) for counts in (layer, viewer.dims))
    at = np.round(np.asarray(layer.world_to_data(point * factors(sliders, units))))
    # the last axis of a colour image is no axis of the world
    last = np.asarray(shape_of(layer)) - 1
    return tuple(int(i) for i in np.clip(at, 0, last))


def find_walk(labels: Labels, axis: int | str, viewer: ViewerModel | None) -> Walk:
    """Choose what is walked: one axis, and the slice across it that a person would look at.

    With more than three axes, the slice takes the displayed axes first; the rest stay where the
    viewer shows them.

    Raises
    ------
    PromptError
        If the layer has too few axes, or too many and no viewer.
    """
    number = read_axis(labels, axis)
    if labels.ndim < 3:
        raise PromptError(
            f"The Labels layer has {labels.ndim} axes: propagation needs a volume or a video."
        )
    if labels.ndim == 3:
        return Walk(3, number)
    if viewer is None:
        raise PromptError(
            f"The Labels layer has {labels.ndim} axes: add it to the viewer that is used last, "
            "which says where the axes that are not walked stand."
        )
    others = [a for a in _layer_order(labels, viewer) if a != number]
    here = position(labels, viewer)
    return Walk(labels.ndim, number, tuple((a, here[a]) for a in sorted(others[:-2])))


def shown_slice(labels: Labels, walk: Walk, viewer: ViewerModel) -> int:
    """Slice of a walk at which the viewer stands."""
    return position(labels, viewer)[walk.axis]


def show_slice(labels: Labels, walk: Walk, viewer: ViewerModel, index: int) -> None:
    """Move the viewer's slider to a slice of a walk."""
    here = list(position(labels, viewer))
    moved = walk.positions(index)
    for axis, k in moved:
        here[axis] = k
    units, sliders = (units_of(counts, labels.ndim) for counts in (labels, viewer.dims))
    place = np.asarray(labels.data_to_world(here)) * factors(units, sliders)
    axes = [axis for axis, _ in moved]
    shift = viewer.dims.ndim - labels.ndim
    viewer.dims.set_point([axis + shift for axis in axes], [float(place[axis]) for axis in axes])


def has_slider(labels: Labels, walk: Walk, viewer: ViewerModel) -> bool:
    """Whether slices of a walk have a slider: not where all of them are displayed at once."""
    shift = viewer.dims.ndim - labels.ndim
    return any(axis + shift not in viewer.dims.displayed for axis, _ in walk.positions(0))


def shows_across(labels: Labels, walk: Walk, viewer: ViewerModel) -> bool:
    """Whether the viewer shows more than one slice of a walk: in 3-D, or cut across it."""
    across = walk.axis + viewer.dims.ndim - labels.ndim in viewer.dims.displayed
    return viewer.dims.ndisplay == 3 or across


def painted_slices(labels: Labels, walk: Walk) -> list[int]:
    """Slices of a walk on which anything is painted."""
    data: Any = labels.data
    if isinstance(data, np.ndarray):
        volume = np.moveaxis(data[walk.at(slice(None))], walk.engine_axis, 0)
        return [int(k) for k in np.flatnonzero(volume.max(axis=(1, 2)))]
    length = data.shape[walk.axis]
    return [k for k in range(length) if np.asarray(data[walk.at(k)]).any()]


def shape_of(layer: Layer) -> tuple[int, ...]:
    """Shape of the finest level, without colours."""
    data: Any = layer.data
    pixels: Any = data[0] if getattr(layer, "multiscale", False) else data
    return tuple(int(n) for n in pixels.shape[: layer.ndim])


def _layer_order(layer: Layer, viewer: ViewerModel) -> list[int]:
    """Axes of a layer in the viewer's order; layers are aligned at their last axis."""
    extra = viewer.dims.ndim - layer.ndim
    return [a - extra for a in viewer.dims.order if a >= extra]


def _is_default(name: str) -> bool:
    """Whether an axis has one of napari's own names: a negative number, "axis -3" before 0.7."""
    number = name.removeprefix("axis ").lstrip("-")
    return not number or number.isdigit()
