"""From layers to a job for the engine: everything is checked here, nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import ImageError, PromptError
from imos_core.intensity import finite
from imos_core.painted import refuse_across
from imos_core.prompt import read_prompts
from imos_core.sweep import Sweep
from napari_imos._picture import Picture, channel_axis, shape_of
from napari_imos._provenance import Kind
from napari_imos._walk import (
    Walk,
    axis_names,
    find_walk,
    ids_on,
    painted_slices,
    shown_slice,
)
from napari_imos._words import numbers, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

    from imos_core.on_grid import Grid
    from napari_imos._ledger import Ledger
    from napari_imos._plan import Span


_QUICK = 50_000_000
"""Voxels that are read within some hundredths of a second."""


@dataclass(frozen=True)
class Rules:
    """What a run may write, beyond what the engine knows."""

    locked: tuple[int, ...] = ()
    """Labels that are never changed; they still compete for pixels."""
    only_empty: bool = False
    """Fill only voxels that hold nothing: earlier results stay too."""
    stop_when_gone: bool = False
    """A label that was gone for three slices stays gone."""


@dataclass(frozen=True)
class Job:
    """Everything that the engine needs of the layers."""

    image: Any
    """Array-like with three spatial axes, and colours last where `keywords` says so."""
    prompts: dict[int, npt.NDArray[Any]]
    """Slice -> `(H, W)` labels, copied."""
    ids: tuple[int, ...]
    """Labels that are propagated, and those that earlier runs left and no anchor shows any more."""
    walk: Walk
    """Where the slices lie in the Labels layer."""
    length: int
    """Slices along the walk."""
    keywords: dict[str, Any]
    """Keywords of `imos_core.propagate` that follow from the layers."""

    rules: Rules = Rules()
    """What may be written."""
    spans: tuple[Span, ...] | None = None
    """Ranges of slices to do; None: what the options say."""
    ended: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Slice in none of them -> labels to be taken away from it, as they have ended before."""
    layer: Any = None
    """Labels layer that the walk goes through, for `held`."""
    absent: dict[int, list[int]] = field(default_factory=dict)
    """Label -> prompt slices from which a person erased it, and those where it has ended."""
    basis: dict[int, npt.NDArray[np.uint32]] = field(default_factory=dict)
    """Label -> what its slices will have been made from."""
    covered: range | None = None
    """Slices on which the image has something to show; None: all."""
    elsewhere: bool = False
    """Whether the image has other voxels than the labels."""
    grid: Grid | None = None
    """Where the labels' voxels are in it then, if one grid says it."""

    def held(self, index: int) -> npt.NDArray[Any]:
        """Return what the Labels layer holds on a slice now, `(H, W)`."""
        return np.array(self.layer.data[self.walk.at(index)])

    def merge(
        self,
        held: npt.NDArray[Any],
        ours: npt.NDArray[np.bool_],
        found: npt.NDArray[Any],
    ) -> npt.NDArray[Any]:
        """Return what a slice holds once labels that were found have been written.

        Parameters
        ----------
        held : ndarray
            `(H, W)` labels that the layer holds.
        ours : ndarray
            `(H, W)` whether an earlier run wrote them (`Ledger.ours`); all others stay.
        found : ndarray
            `(H, W)` labels.
        """
        free = held == 0
        if not self.rules.only_empty:
            free |= ours & np.isin(held, self.ids)
        if locked := self.rules.locked:
            found = np.where(np.isin(found, locked), 0, found)
        return np.where(free, found, held).astype(held.dtype, copy=False)

    @cached_property
    def painted(self) -> dict[int, list[int]]:
        """Label -> prompt slices that show it; locked labels too, because they compete."""
        result: dict[int, list[int]] = {}
        wanted = self.keywords.get("labels")
        for k in sorted(self.prompts):
            for label in ids_on(self.prompts[k]):
                if wanted is None or label in wanted:
                    result.setdefault(label, []).append(k)
        return result

    @property
    def main_slice(self) -> int:
        """Slice from which it starts."""
        return next(iter(self.prompts), next(iter(self.ended), 0))

    def leads(self, index: int, main: int, *, ahead: bool) -> bool:
        """Whether a slice is on the side that is shown while it runs."""
        return (index > main) == ahead

    def again(self, index: int) -> bool:
        """Whether the slice is done before, for other labels."""
        return False

    def place(self, index: int) -> tuple[Job, int]:
        """Job of the one walk that a slice is on, and its number there."""
        return self, index

    def ranges(self, options: Mapping[str, Any]) -> tuple[Span, ...]:
        """Ranges of slices that the engine will be asked for."""
        if self.spans is not None:
            return self.spans
        start = options.get("start") or 0
        stop = self.length if options.get("stop") is None else options["stop"]
        if self.covered is not None:
            start, stop = max(start, self.covered.start), min(stop, self.covered.stop)
        return ((start, stop),)

    def expected(self, options: Mapping[str, Any]) -> int:
        """How many slices the engine will yield with these keywords."""
        direction = options.get("direction", "both")
        first = min(self.prompts) if direction == "forward" else 0
        last = max(self.prompts) + 1 if direction == "backward" else self.length
        total = 0
        for start, stop in self.ranges(options):
            ahead = set(range(max(start, first), min(stop, last)))
            total += len(ahead | {k for k in self.prompts if start <= k < stop})
        return total + len(self.ended)


@dataclass(frozen=True)
class Choice:
    """Which slices serve as prompts when nobody says."""

    main: int
    """Slice that the view starts from."""
    others: tuple[int, ...]
    """Further anchors."""
    ids: tuple[int, ...]
    """Labels that are propagated."""


def choose_anchors(
    labels: Labels, walk: Walk, viewer: ViewerModel, ledger: Ledger, *, look: bool = True
) -> Choice:
    """Choose the anchors.

    Before the first run: the slices that a brush was on, with all their labels, and the slice that
    the viewer shows, or else the only painted one; further anchors that hold these labels or
    nothing. Afterwards: all anchors, with all their labels.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Its slices.
    viewer : ViewerModel
        Viewer.
    ledger : Ledger
        What was written into the layer before.
    look : bool
        Look at every slice now; otherwise rely on what was seen last, which is quick.

    Raises
    ------
    PromptError
        If no slice serves, or there is a choice.
    """
    known = ledger.anchors(labels, walk) if look else ledger.known_anchors(labels, walk)
    data: Any = labels.data
    ids_of = ledger.ids_on if look else ledger.ids_seen
    held = {k: ids_of(labels, walk, k) for k in known}
    record, shown = ledger.record(labels, walk), shown_slice(labels, walk, viewer)
    meant = [k for k, ids in held.items() if ids and (record.runs or record.painted[k])]
    ids: tuple[int, ...] = ()
    if meant and (record.runs or not ids_on(data[walk.at(shown)])):
        main = min(meant, key=lambda k: (abs(k - shown), k))
    else:
        quick = isinstance(data, np.ndarray) and data.size <= _QUICK
        seen = None if look or quick else np.flatnonzero(record.kind != Kind.EMPTY).tolist()
        main, ids = main_anchor(labels, walk, viewer, seen)
    union = {*ids, *(i for k in meant for i in held[k])}
    if min(union, default=0) < 0:
        raise PromptError(f"Slice {main} holds negative labels: use ids from 1 up.")
    # one that holds nothing was checked to be empty: labels end there
    others = (k for k in known if k != main and (not held[k] or union & set(held[k])))
    return Choice(main, tuple(others), tuple(sorted(union)))


def main_anchor(
    labels: Labels, walk: Walk, viewer: ViewerModel, seen: list[int] | None = None
) -> tuple[int, tuple[int, ...]]:
    """Slice that serves as prompt when nobody says, and the labels on it.

    Parameters
    ----------
    labels : Labels
        Layer.
    walk : Walk
        Its slices.
    viewer : ViewerModel
        Viewer.
    seen : list of int, optional
        Slices that are painted, as far as they were looked at; by default all are looked at now.

    Raises
    ------
    PromptError
        If the shown slice is not painted, and not exactly one other is.
    """
    data: Any = labels.data
    shown = shown_slice(labels, walk, viewer)
    if ids := ids_on(data[walk.at(shown)]):
        return shown, ids
    painted = painted_slices(labels, walk) if seen is None else seen
    # of labels on disk hardly any slice was looked at
    unsure = seen is not None and not isinstance(data, np.ndarray)
    if not painted and not unsure:
        names = axis_names(labels)
        here = " and ".join(place(names[axis], at) for axis, at in walk.fixed)
        raise PromptError(
            f"Nothing is painted{f' at {here}' if here else ''}: paint an object on one slice "
            f"first{', or move the sliders' if here else ''}."
        )
    if len(painted) != 1:
        raise PromptError(
            f"Nothing is painted on slice {shown}: paint it, or go to a painted slice"
            f"{f' ({numbers(painted)})' if painted else ''}."
        )
    return painted[0], ids_on(data[walk.at(painted[0])])


def read_job(
    image: Image,
    labels: Labels,
    axis: int | str,
    anchors: Iterable[int] | None,
    wanted: Iterable[int] | None,
    viewer: ViewerModel | None,
    ledger: Ledger,
    rules: Rules | None = None,
    channels: Iterable[Any] | None = None,
) -> Job:
    """Read what is to be propagated.

    Parameters
    ----------
    image, labels : Image, Labels
        Layers.
    axis : int or str
        Axis of the Labels layer, by number or name.
    anchors : iterable of int, optional
        Prompt slices; by default those of `choose_anchors`, or without a viewer all painted ones.
    wanted : iterable of int, optional
        Only these labels.
    viewer : ViewerModel, optional
        Viewer that shows the layers.
    ledger : Ledger
        What was written into the layer before.
    rules : Rules, optional
        What may be written.
    channels : iterable, optional
        See `Picture`.

    Returns
    -------
    Job
        Checked.

    Raises
    ------
    PromptError
        If the layers do not fit together or the prompt does not serve.
    ImageError
        If the image does not serve.
    """
    check_writable(labels)
    walk = find_walk(labels, axis, viewer)
    picture = Picture(image, labels, viewer, channels)
    picture.check(walk)
    ids = None if wanted is None else tuple(int(i) for i in wanted)
    if anchors is not None:
        slices = inside(anchors, labels.data.shape[walk.axis])
    elif viewer is None and ledger.record(labels, walk).runs:
        slices = tuple(ledger.anchors(labels, walk))
    elif viewer is None:
        slices = tuple(painted_slices(labels, walk))
    else:
        choice = choose_anchors(labels, walk, viewer, ledger)
        slices = (choice.main, *choice.others)
        if ids is None:
            ids = choice.ids
    if not slices:
        raise PromptError("Nothing is painted: paint an object on one slice first.")
    job = job_on(picture, labels, walk, slices, ids, ledger, rules or Rules())
    if anchors is None and viewer is None and not ledger.record(labels, walk).runs:
        refuse_across(job.prompts, walk.engine_axis)
    if anchors is None and wanted is None:
        gone = ledger.gone(walk, job.prompts)
        job = replace(job, ids=(*job.ids, *(i for i in gone if i not in job.rules.locked)))
    return job


def job_on(
    picture: Picture,
    labels: Labels,
    walk: Walk,
    slices: Sequence[int],
    ids: tuple[int, ...] | None,
    ledger: Ledger,
    rules: Rules,
) -> Job:
    """Make a job of slices that serve as prompts; see `read_job`."""
    data: Any = labels.data
    covered = check_reached(picture, walk, slices)
    pixels = picture.on(walk, slices)
    sweep = Sweep(pixels, walk.engine_axis, channels_last=picture.colours)
    planes = {k: np.array(data[walk.at(k)]) for k in slices}
    given = read_prompts(planes, len(sweep), sweep.plane_shape, ids)
    free = tuple(i for i in given.anchors if i not in rules.locked)
    if not free:
        raise PromptError(
            f"All painted labels are locked ({numbers(sorted(given.anchors))}): unlock one."
        )
    _check_visible(sweep, slices[0])
    keywords = keywords_on(picture, labels, walk, ids)
    absent = absent_on(labels, walk, sorted(planes), set(given.anchors), ledger)
    return Job(
        pixels,
        planes,
        free,
        walk,
        len(sweep),
        keywords,
        rules,
        layer=labels,
        absent=absent,
        covered=None if len(covered) == len(sweep) else covered,
        elsewhere=picture.elsewhere(walk),
        grid=picture.grid(walk),
    )


def keywords_on(
    picture: Picture, labels: Labels, walk: Walk, ids: tuple[int, ...] | None
) -> dict[str, Any]:
    """Return the keywords of `imos_core.propagate` that follow from the layers."""
    spacing = np.abs(np.asarray(labels.scale))[list(walk.kept)]
    keywords: dict[str, Any] = {
        "axis": walk.engine_axis,
        "spacing": tuple(float(s) for s in spacing),
        "channels_last": picture.colours,
        "labels": ids,
    }
    if picture.contrast is not None:
        keywords["contrast"] = picture.contrast
    return keywords


def absent_on(
    labels: Labels, walk: Walk, slices: Sequence[int], ids: set[int], ledger: Ledger
) -> dict[int, list[int]]:
    """Label -> those of the slices from which a person erased it, and those where it has ended."""
    absent: dict[int, list[int]] = {}
    for k in slices:
        for label in ledger.absent(labels, walk, k, ids) & ids:
            absent.setdefault(label, []).append(k)
    record = ledger.record(labels, walk)
    if record.ended:
        data: Any = labels.data
        held = {k: ids_on(data[walk.at(k)]) for k in slices}
        for label in ids:
            shown = [k for k, here in held.items() if label in here]
            if ends := record.ends(label, shown):
                absent[label] = sorted({*absent.get(label, ()), *ends})
    return absent


def fitting_image(layers: Iterable[Layer], labels: Labels) -> Image | None:
    """Return the first Image layer of the shape of a Labels layer, or else the first."""
    from napari.layers import Image

    images = [layer for layer in layers if isinstance(layer, Image)]
    for image in images:
        shape, axis = shape_of(image), channel_axis(image, labels)
        if axis is not None and image.ndim > labels.ndim:
            shape = shape[:axis] + shape[axis + 1 :]
        if shape[-3:] == shape_of(labels)[-3:]:
            return image
    return images[0] if images else None


def check_writable(labels: Labels) -> None:
    """Refuse Labels layers that cannot be written.

    Raises
    ------
    PromptError
        If it is multiscale, read-only or locked.
    """
    data: Any = labels.data
    if labels.multiscale:
        raise PromptError(
            f"The Labels layer {labels.name!r} is multiscale, which napari cannot edit: paint on a "
            "new Labels layer."
        )
    flags = getattr(data, "flags", None)
    read_only = getattr(data, "read_only", False) or (
        flags is not None and not getattr(flags, "writeable", True)
    )
    if read_only or not labels.editable:
        raise PromptError(
            f"The Labels layer {labels.name!r} is read-only: duplicate it and paint on the copy."
        )


def check_fits(
    image: Image,
    labels: Labels,
    walk: Walk,
    viewer: ViewerModel | None,
    channels: Iterable[Any] | None = None,
) -> None:
    """Refuse an image that does not lie on the labels; nothing is read.

    Raises
    ------
    PromptError, ImageError
        If shape or place differ, or nobody says where further axes stand.
    """
    Picture(image, labels, viewer, channels).check(walk)


def check_reached(picture: Picture, walk: Walk, slices: Iterable[int]) -> range:
    """Return the slices on which the image, which lies on the labels, has something to show.

    Raises
    ------
    PromptError
        If one of `slices`, which are painted, is none of them.
    """
    covered = picture.covered(walk)
    for k in slices:
        if k not in covered:
            raise PromptError(f"The image does not reach slice {k}, where something is painted.")
    return covered


def inside(anchors: Iterable[int], length: int) -> tuple[int, ...]:
    """Check prompt slices that were asked for; negative ones count from the end."""
    given = [int(k) for k in anchors]
    for k in given:
        if not -length <= k < length:
            raise PromptError(
                f"The prompt slice {k} is outside the image, which has slices 0 to {length - 1}."
            )
    return tuple(dict.fromkeys(k % length for k in given))


def _check_visible(sweep: Sweep, index: int) -> None:
    """Refuse an image with nothing to see on the prompt slice."""
    frame = sweep.frame(index)
    values = finite(frame)
    if values.size == frame.size and values.min() == values.max():
        raise ImageError(
            f"The image is constant on slice {index}: check that the right image is chosen."
        )
