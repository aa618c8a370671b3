"""propagate(): painted slices in, one finished slice after another out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeVar

import numpy as np

from imos_core.anchors import plan_legs
from imos_core.byte_sizes import parse_size
from imos_core.config import WINDOW_MEMORY, MemoryConfig, check_memory
from imos_core.device import arithmetic, check_weights, precision_name
from imos_core.errors import DeviceError, PromptError
from imos_core.heap import give_back
from imos_core.model.prepared import prepared
from imos_core.model.quantised import eight_bits
from imos_core.preprocess import intensity_window
from imos_core.prompt import read_ends, read_prompts
from imos_core.segmented import Cancel, SegmentedSlice, check_cancel
from imos_core.sweep import Sweep
from imos_core.walking.budget import Budget, plan
from imos_core.walking.ending import Ending
from imos_core.walking.patience import WINDOW_PATIENCE
from imos_core.walking.rounds import slices_of
from imos_core.walking.run import Run
from imos_core.walking.starts import starts_of
from imos_core.weights import network_for
from imos_core.whole_numbers import whole

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from os import PathLike

    import numpy.typing as npt
    import torch

    from imos_core.anchors import Leg
    from imos_core.model import IMOS
    from imos_core.walking.checkpoint import Checkpoint


__all__ = ["Cancel", "SegmentedSlice", "propagate"]

# mappings are invariant in their keys: dict[np.int64, ...] is no Mapping[SupportsIndex, ...]
_Slice = TypeVar("_Slice", bound=SupportsIndex)
_Label = TypeVar("_Label", bound=SupportsIndex)
_Passing = TypeVar("_Passing", bound=SupportsIndex)

_SHARE = 8
"""Part of a budget, as 1 of so many, that what was read of the image may take."""
_LONGEST = 1e8
"""A side of a pixel over the other one, at most."""
_LABELLED = 4
"""Slices of labels at a time: of two sides, as they are merged and as they go out."""


def propagate(
    image: Any,
    prompts: Mapping[_Slice, npt.ArrayLike],
    *,
    axis: SupportsIndex = 0,
    start: SupportsIndex | None = None,
    stop: SupportsIndex | None = None,
    direction: Literal["both", "forward", "backward"] = "both",
    labels: SupportsIndex | Iterable[SupportsIndex] | None = None,
    model: str | PathLike[str] | IMOS = "imos-compact",
    adapter: str | PathLike[str] | None = None,
    device: str = "auto",
    precision: str | torch.dtype = "auto",
    memory: MemoryConfig | None = None,
    window: Literal["auto", "full"] = "auto",
    contrast: Sequence[float] | npt.NDArray[Any] | None = None,
    spacing: Sequence[float] | npt.NDArray[Any] | None = None,
    channels_last: bool = False,
    cancel: Cancel | None = None,
    batch: int | None = None,
    memory_budget: float | str | Budget | None = None,
    checkpoint: Checkpoint | None = None,
    patience: int | Literal["auto"] | None = "auto",
    ends: Mapping[_Label, Iterable[SupportsIndex]] | None = None,
    through: Mapping[_Passing, Iterable[SupportsIndex]] | None = None,
) -> Generator[SegmentedSlice, None, None]:
    """Carry painted slices through a volume or video.

    Everything is checked at the call, before the first slice; slices are read one at a time.

    Parameters
    ----------
    image : array-like
        Three spatial axes (numpy, memmap, dask, zarr), and a trailing channel axis if
        `channels_last`.
    prompts : mapping of int to array-like
        Slice index -> `(H, W)` integer labels of that slice; one entry is the paper's task. A label
        stays away from a prompt that does not show it, but not from those behind: see `ends` and
        `through`.
    axis : int
        Axis that is walked.
    start, stop : int, optional
        Half-open range of slices that come; all by default. Anchors outside still serve: what lies
        between them and the range is walked, too.
    direction : {"both", "forward", "backward"}
        Where to go from the anchors.
    labels : int or iterable of int, optional
        Only these ids; of none, only the painted slices come. Slices that show others only are no
        anchors: what was asked for goes through them, around what is painted there.
    model : str, path or IMOS
        Name, weights file or network.
    adapter : str or path, optional
        Adapter file on top of the model; of a network, on top of a copy of it.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``; of a network, the one that it is on, as
        ``"auto"`` is.
    precision : str or torch.dtype
        ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"`` (or ``"fp32"``, ``"bf16"``,
        ``"fp16"``) or ``"int8"`` (convolutions in eight bits, in windows, by the embedded model on
        a processor).
    memory : MemoryConfig, optional
        How much is remembered; by default less in windows than in whole slices (`WINDOW_MEMORY`).
    window : {"auto", "full"}
        Object-centred windows, several for an object of parts that lie far apart and for one that
        is long and very thin, or whole slices as in the paper.
    contrast : sequence of float, optional
        Two intensities that become black and white; by default robust percentiles around the
        anchors.
    spacing : sequence of float, optional
        Size of a voxel along the three axes, any unit.
    channels_last : bool
        Whether the last axis holds colours.
    cancel : object with `is_set`, optional
        Checked between slices; when set, the generator returns.
    batch : int, optional
        Windows that go through the network at a time; the result does not depend on it, but for
        rounding.
    memory_budget : float or str, optional
        Bytes, or text such as ``"4GB"``: memory that the process may take, or that of the GPU if it
        runs there. Batches are chosen to stay under it. A `Budget` says what is needed beside. Not
        with whole slices, of which nothing can be made smaller.
    checkpoint : Checkpoint, optional
        Where to keep what a run remembers, so that it can go on after an interruption. A run that
        goes on yields only the slices that were not finished.
    patience : int, "auto" or None
        Slices in a row without a label after which it has ended beyond its outermost painted
        slices: it stays away there, and is no more work; so do parts that have windows of their
        own, each by itself. None: every label is looked for to the
        end. By default five in windows, where none was seen to come back later, and None in whole
        slices.
    ends : mapping of int to iterable of int, optional
        Label -> slices where it is not, by a person's word: it has ended there and beyond, seen
        from its painted slices, unless it is painted beyond too (`imos_core.walking.ending`). By
        default, all labels are not where a prompt is empty.
    through : mapping of int to iterable of int, optional
        Label -> painted slices that say nothing of it (`imos_core.through.unrelated`), though they
        serve as anchors of other labels: it goes through them, around what is painted there.
        Otherwise, a label stays away from a painted slice that does not show it.

    Returns
    -------
    generator of SegmentedSlice
        Anchors first, exactly as painted, then outward, forward and backward alternating (of 5: 6,
        4, 7, 3). Those that labels go through come when these have been there.

    Raises
    ------
    PromptError, ImageError, WeightsError, DeviceError, FileError
        At the call, if something does not fit.
    PropagationError
        While running, if the computation fails.
    """
    sweep = Sweep(image, axis, channels_last=channels_last)
    given = read_prompts(prompts, len(sweep), sweep.plane_shape, labels, through)
    first, last = _range(start, stop, len(sweep))
    _check_choices(direction, window)
    sizes = read_spacing(spacing)
    pixel = pixel_size(sizes, sweep.axis)
    legs = plan_legs(given.anchors, first, last, direction)
    given_in_all = memory_budget.total if isinstance(memory_budget, Budget) else memory_budget
    budget = None if given_in_all is None else parse_size(given_in_all)
    if budget is not None and window == "full":
        raise PromptError(
            "Whole slices cannot be made to fit into less memory: leave memory_budget (--memory) "
            "out, or use window auto."
        )
    most_windows = _from_one(
        batch, "batch", "At least one window goes through the network at a time"
    )
    default = WINDOW_PATIENCE if window == "auto" else None
    waits = _from_one(
        default if patience == "auto" else patience,
        "patience",
        "A label is gone after one empty slice or more",
    )
    check_memory(memory)
    check_cancel(cancel)
    if checkpoint is not None and not hasattr(checkpoint, "restore"):
        raise PromptError(
            f"checkpoint is a Checkpoint, such as Checkpoint(folder), not {checkpoint!r}."
        )
    said = read_ends(ends, given, len(sweep))
    # where somebody says that a label is not, it does not go through
    goes = {i: where.difference(said.get(i, ())) for i, where in given.through.items()}
    given = replace(given, through=goes)
    ending = Ending(given.anchors, said)
    walked = [leg for leg in legs if not ending.stops(leg, leg.slices[0])]
    paths, most = _paths(walked), None if budget is None else budget // _SHARE
    sweep.expect(paths, most)
    shown = given.slices if window == "auto" else None
    limits = intensity_window(sweep, given.slices, contrast, shown)
    network = network_for(model, adapter=adapter, device=device)
    check_weights(network)
    where = next(network.parameters()).device
    remembered = memory or (MemoryConfig() if window == "full" else WINDOW_MEMORY)
    computed = arithmetic(
        precision, where, eight_bits=_eight_bits(precision, network, where, window)
    )

    def beside(total: int) -> int:
        labelled = _LABELLED * math.prod(sweep.plane_shape) * given.dtype.itemsize
        theirs = memory_budget.beside(total) if isinstance(memory_budget, Budget) else 0
        return sweep.most_held(paths, total // _SHARE) + labelled + theirs

    if budget is not None:
        # what is held for the whole run is there, and nothing else, when it is looked at
        prepared(network, computed, grey=network.config.channels(sweep.colour) == 1)
        sweep.expect(paths, most)
        give_back()
    starts = starts_of(
        walked,
        given.slices,
        network.config,
        pixel,
        colour=sweep.colour,
        fine=window == "auto",
        divide=window == "auto",
    )
    walked = starts.walked(walked)
    held = plan(
        budget,
        most_windows,
        config=network.config,
        memory=remembered,
        legs=walked,
        plane_bytes=sweep.plane_bytes,
        colour=sweep.colour,
        side=max(
            (starts.of(leg).samples for leg in walked),
            default=network.config.window(sweep.colour),
        ),
        device=where,
        beside=beside,
    )
    run = Run(
        sweep=sweep,
        prompts=given,
        legs=legs,
        walked=walked,
        model=network,
        memory=remembered,
        span=(first, last),
        limits=limits,
        pixel=pixel,
        thickness=_thickness(sizes, sweep.axis),
        device=where,
        dtype=computed,
        window=window,
        plan=held,
        checkpoint=checkpoint,
        cancel=cancel,
        patience=waits,
        ending=ending,
        starts=starts,
    )
    run.prepare()
    return slices_of(run)


def _check_choices(direction: str, window: str) -> None:
    """Refuse words that mean nothing."""
    if direction not in ("both", "forward", "backward"):
        raise PromptError(f"Direction {direction!r} is unknown: use both, forward or backward.")
    if window not in ("auto", "full"):
        raise PromptError(f"Window {window!r} is unknown: use auto or full.")


def _from_one(value: Any, name: str, reason: str) -> int | None:
    """Return a whole number from 1 on, or None as it is.

    Raises
    ------
    PromptError
        If it is something else; `reason` is why less means nothing.
    """
    number = None if value is None else whole(value, name)
    if number is not None and number < 1:
        raise PromptError(f"{reason}: {name} is 1 up.")
    return number


def _eight_bits(
    precision: str | torch.dtype, network: IMOS, device: torch.device, window: str
) -> bool:
    """Whether convolutions can compute in eight bits: activations were measured in windows.

    Raises
    ------
    DeviceError
        If they could, but for this machine, and are asked to.
    """
    if window != "auto" or not network.activations or device.type != "cpu":
        return False
    if precision_name(precision) == "int8" and not eight_bits():
        raise DeviceError(
            "This processor, or this version of PyTorch, has no convolutions in eight bits: use "
            "precision auto."
        )
    return eight_bits() > 0


def _paths(legs: Iterable[Leg]) -> list[range]:
    """Slices that are read, in the order of each walk."""
    ends = dict.fromkeys((leg.anchor, leg.slices[-1]) for leg in legs)
    return [range(a, b + 1) if a < b else range(a, b - 1, -1) for a, b in ends]


def _range(start: SupportsIndex | None, stop: SupportsIndex | None, length: int) -> tuple[int, int]:
    first = 0 if start is None else whole(start, "start")
    last = length if stop is None else whole(stop, "stop")
    if not 0 <= first < last <= length:
        raise PromptError(
            f"The range {first} to {last} does not fit: the image has slices 0 to {length - 1}."
        )
    return first, last


def read_spacing(spacing: Iterable[float] | None) -> tuple[float, float, float] | None:
    """Return the size of a voxel that a person gave.

    Raises
    ------
    PromptError
        If it is no three positive numbers.
    """
    if spacing is None:
        return None
    try:
        sizes = [] if isinstance(spacing, str) else [float(s) for s in spacing]
    except (TypeError, ValueError, OverflowError):
        sizes = []
    if len(sizes) != 3 or not all(np.isfinite(sizes)) or min(sizes) <= 0:
        raise PromptError("Spacing must be three positive numbers, one per axis.")
    return sizes[0], sizes[1], sizes[2]


def pixel_size(spacing: tuple[float, float, float] | None, axis: int) -> tuple[float, float]:
    """Size of a pixel along rows and columns of the slices along `axis`.

    Raises
    ------
    PromptError
        If one is out of all proportion to the other.
    """
    if spacing is None:
        return 1.0, 1.0
    rows, cols = (s for i, s in enumerate(spacing) if i != axis)
    if max(rows, cols) / _LONGEST > min(rows, cols):
        raise PromptError(
            f"Pixels of {rows:g} x {cols:g} are out of all proportion: give the spacing of all "
            "axes in one unit."
        )
    return rows, cols


def _thickness(spacing: tuple[float, float, float] | None, axis: int) -> float:
    """Distance of slices; negative where nobody has said it, which 1, 1, 1 means too."""
    if spacing is None or all(s == 1 for s in spacing):
        return -1.0
    return spacing[axis]
