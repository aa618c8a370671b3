"""propagate(): painted slices in, one finished slice after another out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from imos_core.anchors import Contribution, Leg, SliceMerger, Source, plan_legs
from imos_core.cohort import WindowCohort
from imos_core.config import MemoryConfig
from imos_core.device import autocast_dtype
from imos_core.errors import PromptError, PropagationError
from imos_core.full import WholeSliceCohort
from imos_core.model import IMOS
from imos_core.preprocess import intensity_window, to_unit
from imos_core.prompt import Prompts, read_prompts
from imos_core.sweep import Sweep
from imos_core.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from os import PathLike

    import numpy.typing as npt
    from torch import Tensor


@dataclass(frozen=True)
class SegmentedSlice:
    """One finished slice."""

    index: int
    """Slice index along the axis."""
    labels: npt.NDArray[Any]
    """`(H, W)` labels, with the prompt's dtype and ids."""
    confidence: npt.NDArray[np.float16]
    """`(H, W)` probability of the label that each pixel got, 0..1."""
    source: Source
    """``"anchor"``: as painted; ``"forward"``, ``"backward"``: from one side; ``"blend"``: both."""


class Cancel(Protocol):
    """Anything that can say stop, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


class _Cohort(Protocol):
    def segment(self) -> list[Contribution]: ...
    def remember(self) -> None: ...
    def __len__(self) -> int: ...


def propagate(
    image: Any,
    prompts: Mapping[int, npt.ArrayLike],
    *,
    axis: int = 0,
    start: int | None = None,
    stop: int | None = None,
    direction: Literal["both", "forward", "backward"] = "both",
    labels: Iterable[int] | None = None,
    model: str | PathLike[str] | IMOS = "imos-compact",
    adapter: str | PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    memory: MemoryConfig | None = None,
    window: Literal["auto", "full"] = "auto",
    contrast: tuple[float, float] | None = None,
    spacing: tuple[float, ...] | None = None,
    channels_last: bool = False,
    cancel: Cancel | None = None,
) -> Iterator[SegmentedSlice]:
    """Carry painted slices through a volume or video.

    Everything is checked at the call, before the first slice; slices are read one at a time.

    Parameters
    ----------
    image : array-like
        Three spatial axes (numpy, memmap, dask, zarr), and a trailing channel axis if
        `channels_last`.
    prompts : mapping of int to array-like
        Slice index -> `(H, W)` integer labels of that slice; one entry is the paper's task.
    axis : int
        Axis that is walked.
    start, stop : int, optional
        Half-open range of slices; all by default. Anchors outside still serve as memory.
    direction : {"both", "forward", "backward"}
        Where to go from the anchors.
    labels : iterable of int, optional
        Only these ids.
    model : str, path or IMOS
        Name, weights file or network.
    adapter : str or path, optional
        Adapter file on top of the model.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    precision : str
        ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    memory : MemoryConfig, optional
        How much is remembered.
    window : {"auto", "full"}
        Object-centred windows, or whole slices as in the paper.
    contrast : (float, float), optional
        Intensities that become black and white; robust percentiles around the anchors by default.
    spacing : tuple of float, optional
        Size of a voxel along the three axes, any unit.
    channels_last : bool
        Whether the last axis holds colours.
    cancel : object with `is_set`, optional
        Checked between slices; when set, the generator returns.

    Returns
    -------
    iterator of SegmentedSlice
        Anchors first, exactly as painted, then outward, forward and backward alternating.

    Raises
    ------
    PromptError, ImageError, WeightsError, DeviceError, FileError
        At the call, if something does not fit.
    PropagationError
        While running, if the computation fails.
    """
    sweep = Sweep(image, axis, channels_last=channels_last)
    given = read_prompts(prompts, len(sweep), sweep.plane_shape, labels)
    first, last = _range(start, stop, len(sweep))
    if direction not in ("both", "forward", "backward"):
        raise PromptError(f"Direction {direction!r} is unknown: use both, forward or backward.")
    if window not in ("auto", "full"):
        raise PromptError(f"Window {window!r} is unknown: use auto or full.")
    pixel = pixel_size(spacing, sweep.axis)
    limits = intensity_window(sweep, given.slices, contrast)
    network = model
    if not isinstance(network, IMOS):
        network = load_model(network, adapter=adapter, device=device)
    where = next(network.parameters()).device
    run = _Run(
        sweep,
        given,
        plan_legs(given.anchors, first, last, direction),
        network,
        memory or MemoryConfig(),
        (first, last),
        limits,
        pixel,
        _thickness(spacing, sweep.axis),
        where,
        autocast_dtype(precision, where),
        window == "full",
        cancel,
    )
    return run.slices()


@dataclass
class _Run:
    """One call of `propagate`, all of it checked."""

    sweep: Sweep
    prompts: Prompts
    legs: list[Leg]
    model: IMOS
    memory: MemoryConfig
    range: tuple[int, int]
    limits: tuple[float, float]
    pixel: tuple[float, float]
    thickness: float
    device: torch.device
    dtype: torch.dtype
    full: bool
    cancel: Cancel | None

    def slices(self) -> Iterator[SegmentedSlice]:
        """Yield slices; failures of the device become one sentence."""
        try:
            yield from self._slices()
        except torch.OutOfMemoryError as error:
            raise PropagationError(
                'The device ran out of memory: propagate fewer labels at once or use device="cpu".'
            ) from error
        except RuntimeError as error:
            raise PropagationError(f"The computation failed: {error}") from error

    @torch.inference_mode()
    def _slices(self) -> Iterator[SegmentedSlice]:
        shape = self.sweep.plane_shape
        known: dict[int, npt.NDArray[Any]] = dict(self.prompts.slices)
        for index in sorted(known):
            if self.range[0] <= index < self.range[1]:
                sure = np.ones(shape, np.float16)
                yield SegmentedSlice(index, known[index].copy(), sure, "anchor")
        expected: dict[int, int] = {}
        for leg in self.legs:
            for index in leg.slices:
                expected[index] = expected.get(index, 0) + 1
        planes = _PlaneCache(self.sweep, self.limits, self.device)
        with self._autocast():
            cohorts = self._cohorts(planes, known)
        merging: dict[int, SliceMerger] = {}
        while any(len(c) for c in cohorts):
            if self.cancel is not None and self.cancel.is_set():
                return
            touched: dict[int, None] = {}
            with self._autocast():
                contributions = [c for cohort in cohorts if len(cohort) for c in cohort.segment()]
            for contribution in contributions:
                index = contribution.index
                merging.setdefault(index, SliceMerger((shape[0], shape[1]))).add(contribution)
                touched[index] = None
            finished = []
            for index in touched:
                labels, confidence, source = merging[index].merge(self.prompts.dtype)
                if index in self.prompts.slices:
                    # another label's anchor: it stays as painted
                    del merging[index]
                    continue
                known[index] = labels
                if merging[index].count == expected[index]:
                    del merging[index]
                    finished.append(SegmentedSlice(index, labels, confidence, source))
            with self._autocast():
                for cohort in cohorts:
                    if len(cohort):
                        cohort.remember()
            _forget(known, self.prompts, merging, touched)
            for item in sorted(finished, key=lambda s: s.source):
                # the next round looks at our labels: the caller gets its own
                yield replace(item, labels=item.labels.copy())

    def _cohorts(self, planes: _PlaneCache, known: dict[int, npt.NDArray[Any]]) -> list[_Cohort]:
        groups: dict[tuple[Any, ...], list[Leg]] = {}
        for leg in self.legs:
            # whole slices share one network call per anchor and side, windows one per memory size
            key = (leg.anchors, leg.anchor, leg.side) if self.full else (len(leg.anchors),)
            groups.setdefault(key, []).append(leg)
        if self.full:
            return [
                WholeSliceCohort(self.model, self.memory, legs, planes, known)
                for legs in groups.values()
            ]
        return [
            WindowCohort(
                self.model,
                self.memory,
                legs,
                planes,
                known,
                self.pixel,
                self.thickness,
                colour=self.sweep.colour,
            )
            for legs in groups.values()
        ]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


class _PlaneCache:
    """Slices as tensors in 0..1, the most recent few."""

    def __init__(
        self, sweep: Sweep, limits: tuple[float, float], device: torch.device, size: int = 8
    ) -> None:
        self._sweep, self._limits, self._device, self._size = sweep, limits, device, size
        self._planes: OrderedDict[int, Tensor] = OrderedDict()

    def __call__(self, index: int) -> Tensor:
        plane = self._planes.pop(index, None)
        if plane is None:
            plane = to_unit(self._sweep.frame(index), self._limits, self._device)
        self._planes[index] = plane
        if len(self._planes) > self._size:
            self._planes.popitem(last=False)
        return plane


def _forget(
    known: dict[int, npt.NDArray[Any]],
    prompts: Prompts,
    merging: dict[int, SliceMerger],
    touched: Iterable[int],
) -> None:
    """Keep only the labels that the next round looks at, so that memory stays constant."""
    keep = {*prompts.slices, *merging, *touched}
    for index in [k for k in known if k not in keep]:
        del known[index]


def _range(start: int | None, stop: int | None, length: int) -> tuple[int, int]:
    first = 0 if start is None else int(start)
    last = length if stop is None else int(stop)
    if not 0 <= first < last <= length:
        raise PromptError(
            f"The range {first} to {last} does not fit: the image has slices 0 to {length - 1}."
        )
    return first, last


def pixel_size(spacing: tuple[float, ...] | None, axis: int) -> tuple[float, float]:
    """Size of a pixel along rows and columns of the slices along `axis`; checks `spacing`."""
    if spacing is None:
        return 1.0, 1.0
    sizes = [float(s) for s in spacing]
    if len(sizes) != 3 or not all(np.isfinite(sizes)) or min(sizes) <= 0:
        raise PromptError("Spacing must be three positive numbers, one per axis.")
    rows, cols = (s for i, s in enumerate(sizes) if i != axis)
    return rows, cols


def _thickness(spacing: tuple[float, ...] | None, axis: int) -> float:
    """Distance of slices; negative where nobody has said it, which 1, 1, 1 means too."""
    if spacing is None or all(s == 1 for s in spacing):
        return -1.0
    return float(spacing[axis])
