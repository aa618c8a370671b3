"""Methods under evaluation: iMOS itself, copying the prompt, and warping it by optical flow."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from imos_core.errors import FileError
from imos_core.propagation import propagate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from imos_core.evaluation.protocols import Task, TrueSequence
    from imos_core.model import IMOS

_SMALLEST = 96  # optical flow needs some pixels to work with


class ImosMethod:
    """Propagation with a network.

    Parameters
    ----------
    model : IMOS
        Network.
    ends : bool
        Whether somebody has said where the object ends, on both sides.
    **options
        Passed to `propagate`.
    """

    def __init__(self, model: IMOS, *, ends: bool = False, **options: Any) -> None:
        self._model, self._ends, self._options = model, ends, options

    def __call__(self, task: Task) -> npt.NDArray[np.bool_]:
        """Segment a task's object."""
        sequence = task.sequence
        masks = np.zeros(sequence.labels.shape, bool)
        for item in propagate(
            sequence.image,
            {task.prompt: task.mask.astype(np.uint8)},
            start=task.start,
            stop=task.stop,
            direction=task.direction,
            model=self._model,
            spacing=sequence.spacing,
            channels_last=sequence.image.ndim == 4,
            ends={1: ends_of(task)} if self._ends else None,
            **self._options,
        ):
            masks[item.index] = item.labels > 0
        return masks


def ends_of(task: Task) -> list[int]:
    """Slices beside the object's first and last one, as far as there are any."""
    shown = np.flatnonzero((task.sequence.labels == task.label).any((1, 2)))
    beside = (int(shown[0]) - 1, int(shown[-1]) + 1)
    return [k for k in beside if task.start <= k < task.stop]


def titles(models: Sequence[str]) -> list[str]:
    """Short titles of models, all different: their stems, else with folder, else the whole names.

    Parameters
    ----------
    models : sequence of str
        Names, or weights files, which are often called ``weights.safetensors`` each.
    """
    paths = [Path(m) for m in models]
    stems = [p.stem if p.suffix else m for p, m in zip(paths, models, strict=True)]
    longer = [f"{p.parent.name}/{s}" if p.suffix else s for p, s in zip(paths, stems, strict=True)]
    for names in (stems, longer):
        if len(set(names)) == len(set(models)):
            return names
    return list(models)


def copy_prompt(task: Task) -> npt.NDArray[np.bool_]:
    """Put the prompt into every slice."""
    return np.broadcast_to(task.mask, task.sequence.labels.shape)


class FlowMethod:
    """Warp the mask from slice to slice by dense optical flow (OpenCV).

    Parameters
    ----------
    flow : str
        ``"dis-ultrafast"``, ``"dis-fast"``, ``"dis-medium"`` or ``"farneback"``.
    soft : bool
        Whether the warped mask stays soft from slice to slice, or is cut at one half each time.

    Raises
    ------
    FileError
        If OpenCV is not installed.
    """

    def __init__(
        self,
        flow: Literal["dis-ultrafast", "dis-fast", "dis-medium", "farneback"] = "dis-medium",
        *,
        soft: bool = True,
    ) -> None:
        try:
            import cv2
        except ImportError as error:
            raise FileError(
                'The flow baseline needs OpenCV: pip install "napari-imos[evaluate]".'
            ) from error
        cv2.setNumThreads(1)
        self._cv2, self._kind, self._soft = cv2, flow, soft
        self._frames = np.zeros((0, 0, 0), np.uint8)
        self._flow = lru_cache(maxsize=2048)(self._compute)
        self._sequence: TrueSequence | None = None

    def __call__(self, task: Task) -> npt.NDArray[np.bool_]:
        """Warp a task's object outward from its prompt."""
        if self._sequence is not task.sequence:
            self._flow.cache_clear()
            self._sequence = task.sequence
            self._frames = _grey(task.sequence)
        masks = np.zeros(task.sequence.labels.shape, bool)
        masks[task.prompt] = task.mask
        ways = []
        if task.direction != "backward":
            ways.append(range(task.prompt + 1, task.stop))
        if task.direction != "forward":
            ways.append(range(task.prompt - 1, task.start - 1, -1))
        for way in ways:
            carried = task.mask.astype(np.float32)
            for k in way:
                carried = self._warp(carried, self._flow(k, k - way.step))
                if not self._soft:
                    carried = (carried >= 0.5).astype(np.float32)
                masks[k] = carried >= 0.5
        return masks

    def _warp(
        self, mask: npt.NDArray[np.float32], flow: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        y, x = np.indices(mask.shape, np.float32)
        where = (x + flow[..., 0], y + flow[..., 1])
        return np.asarray(self._cv2.remap(mask, *where, self._cv2.INTER_LINEAR), np.float32)

    def _compute(self, current: int, previous: int) -> npt.NDArray[np.float32]:
        """Where each pixel of `current` was in `previous`: `(H, W, 2)`, x first, in pixels."""
        cv2 = self._cv2
        a, b = self._frames[current], self._frames[previous]
        factor = max(1.0, _SMALLEST / min(a.shape))
        if factor > 1:
            size = (round(a.shape[1] * factor), round(a.shape[0] * factor))
            a, b = (cv2.resize(f, size, interpolation=cv2.INTER_LINEAR) for f in (a, b))
        if self._kind == "farneback":
            flow = cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 4, 15, 3, 5, 1.1, 0)
        else:
            preset = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{self._kind[4:].upper()}")
            flow = cv2.DISOpticalFlow_create(preset).calc(a, b, None)
        if factor > 1:
            height, width = self._frames.shape[1:]
            scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
            flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * scale
        result: npt.NDArray[np.float32] = flow
        return result


def _grey(sequence: TrueSequence) -> npt.NDArray[np.uint8]:
    """Frames as optical flow wants them: `(T, H, W)` uint8."""
    image = sequence.image.astype(np.float32)
    grey = image.mean(-1) if image.ndim == 4 else image
    low, high = np.percentile(grey, (0.5, 99.5))
    scaled = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
    return np.asarray(scaled * 255, np.uint8)
