"""Baselines that iMOS is compared with, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.segmentation import random_walker

from imos_core.boxes import box_of, widened
from imos_core.errors import FileError
from imos_core.evaluation.interpolation import interpolate_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from imos_core.boxes import Box
    from imos_core.evaluation.protocols import Task, TrueSequence
    from imos_core.evaluation.scoring import Method

    Mask = npt.NDArray[np.bool_]
    Plane = npt.NDArray[np.float32]

_BAND = 0.1  # of the radius of a disc of the mask's area
_MARGIN = 12  # pixels
_BETA = 1000.0  # how much edges hold random walkers up
_FINEST = 80
_KEPT = 2**29  # bytes of flow that other objects of the sequence need again
_SMALLEST = 96  # optical flow needs some pixels to work with


def copy_prompt(task: Task) -> Mask:
    """Put the prompt into every slice."""
    return np.broadcast_to(task.mask, task.sequence.labels.shape)


class FlowMethod:
    """Warp the mask from slice to slice by dense optical flow (OpenCV).

    The warped mask stays soft from slice to slice.

    Raises
    ------
    FileError
        If OpenCV is not installed.
    """

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise FileError(
                'The flow baseline needs OpenCV: pip install "napari-imos[evaluate]".'
            ) from error
        cv2.setNumThreads(1)
        self._cv2 = cv2
        self._frames = np.zeros((0, 0, 0), np.uint8)
        self._sequence: TrueSequence | None = None
        self._kept: dict[tuple[int, int], Plane] = {}

    def __call__(self, task: Task) -> Mask:
        """Warp a task's object outward from its prompt."""
        if self._sequence is not task.sequence:
            self._sequence = task.sequence
            self._frames = _grey(task.sequence)
            self._kept = {}
        masks = np.zeros(task.sequence.labels.shape, bool)
        masks[task.prompt] = task.mask
        first = carried = task.mask.astype(np.float32)
        for previous, k in _steps(task):
            before = first if previous == task.prompt else carried
            carried = self._warp(before, self._flow(k, previous))
            masks[k] = carried >= 0.5
        return masks

    def _flow(self, current: int, previous: int) -> Plane:
        """What `_compute` says, computed once for all objects as long as there is room."""
        if (current, previous) in self._kept:
            return self._kept[current, previous]
        flow = self._compute(current, previous)
        # every object asks in the same order: what is new must not replace what comes first again
        if (len(self._kept) + 1) * flow.nbytes <= _KEPT:
            self._kept[current, previous] = flow
        return flow

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
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(a, b, None)
        if factor > 1:
            height, width = self._frames.shape[1:]
            scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
            flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * scale
        result: npt.NDArray[np.float32] = flow
        return result


class Interpolation:
    """Interpolate shapes between the object's first and last slice, *both of which are given*.

    It is told one slice more than the others, and does not look at the image.
    """

    def given(self, task: Task) -> tuple[int, int]:
        """First and last slice with the object."""
        truth = task.sequence.labels[task.start : task.stop] == task.label
        present = np.flatnonzero(truth.any(axis=(1, 2))) + task.start
        return int(present[0]), int(present[-1])

    def __call__(self, task: Task) -> Mask:
        """Segment a task's object."""
        painted = {k: task.painted(k) for k in self.given(task)}
        return interpolate_shapes(painted, len(task.sequence.labels))


class RandomWalk:
    """Segment slice after slice by random walks (Grady, 2006; scikit-image).

    Seeds are what lies deep inside and far outside the mask of the slice before; the band between
    is decided by the image.
    """

    def __call__(self, task: Task) -> Mask:
        """Segment a task's object."""
        frames = _unit(task)
        masks = np.zeros(task.sequence.labels.shape, bool)
        masks[task.prompt] = task.mask
        for previous, k in _steps(task):
            if masks[previous].any():
                masks[k] = self._step(frames[k], masks[previous])
        return masks

    def _step(self, frame: Plane, before: Mask) -> Mask:
        width = max(1, round(_BAND * float(np.sqrt(np.count_nonzero(before) / np.pi))))
        box = _window(before, width + _MARGIN)
        mask = before[box]
        inside = ndimage.distance_transform_edt(mask)
        outside = ndimage.distance_transform_edt(~mask)
        seeds = np.zeros(mask.shape, np.int32)
        seeds[outside > width] = 2
        # a small mask keeps its core as the seed
        seeds[inside >= min(width + 1, inside.max())] = 1
        found = np.zeros_like(before)
        # where every pixel has a seed, or all look alike, nothing says more than the mask before
        if (seeds == 2).any() and (seeds == 0).any() and np.ptp(frame[box]) > 0:
            walked = random_walker(
                frame[box],
                seeds,
                beta=_BETA,
                mode="bf",  # exact, and quick enough for a band; cg does not always converge
                channel_axis=-1 if frame.ndim == 3 else None,
            )
            found[box] = walked == 1
        else:
            found[box] = mask
        return found


class Registration:
    """Register slice after slice, and carry the mask along (SimpleITK).

    First an affine transform, then B-splines on a grid, both by the correlation of grey values
    around the object, coarse to fine.

    Raises
    ------
    FileError
        If SimpleITK is not installed.
    """

    def __init__(self) -> None:
        try:
            import SimpleITK
        except ImportError as error:
            raise FileError(
                'The registration baseline needs SimpleITK: pip install "napari-imos[evaluate]".'
            ) from error
        self._itk = SimpleITK

    def __call__(self, task: Task) -> Mask:
        """Segment a task's object."""
        frames = _unit(task)
        if frames.ndim == 4:
            frames = frames.mean(-1)
        masks = np.zeros(task.sequence.labels.shape, bool)
        masks[task.prompt] = task.mask
        soft = {task.prompt: task.mask.astype(np.float32)}
        for previous, k in _steps(task):
            carried = soft[previous]
            if masks[previous].any():
                carried = self._step(frames[k], frames[previous], carried)
            soft[k] = carried
            masks[k] = carried >= 0.5
        return masks

    def _step(self, frame: Plane, before: Plane, mask: Plane) -> Plane:
        sides = [side.stop - side.start for side in _window(mask >= 0.5, 0)]
        box = _window(mask >= 0.5, max(_MARGIN, max(sides) // 2))
        itk = self._itk
        fixed, moving, carried = (
            itk.GetImageFromArray(np.ascontiguousarray(plane[box]))
            for plane in (frame, before, mask)
        )
        moved = np.zeros_like(mask)
        try:
            transform = self._aligned(fixed, moving)
        except RuntimeError:
            # where there is nothing to align, ITK gives up; the mask stays
            moved[box] = mask[box]
            return moved
        warped = itk.Resample(carried, fixed, transform, itk.sitkLinear, 0.0)
        moved[box] = itk.GetArrayFromImage(warped)
        return moved

    def _aligned(self, fixed: Any, moving: Any) -> Any:
        """Where each point of `fixed` was in `moving`."""
        itk = self._itk
        affine = itk.CenteredTransformInitializer(
            fixed, moving, itk.AffineTransform(2), itk.CenteredTransformInitializerFilter.GEOMETRY
        )
        # the finest level has some _FINEST pixels a side: more costs seconds and gains nothing
        finest = max(1, round(max(fixed.GetSize()) / _FINEST))
        method = self._method(shrink=[4 * finest, 2 * finest, finest])
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 60)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(affine, inPlace=True)
        method.Execute(fixed, moving)
        spline = itk.BSplineTransformInitializer(fixed, [3, 3])
        method = self._method(shrink=[2 * finest, finest])
        method.SetOptimizerAsLBFGSB(numberOfIterations=25)
        method.SetMovingInitialTransform(affine)
        method.SetInitialTransform(spline, inPlace=True)
        method.Execute(fixed, moving)
        return itk.CompositeTransform([affine, spline])

    def _method(self, shrink: list[int]) -> Any:
        method = self._itk.ImageRegistrationMethod()
        # one thread, so that the sums come out alike every time
        method.SetNumberOfThreads(1)
        method.SetMetricAsCorrelation()
        method.SetInterpolator(self._itk.sitkLinear)
        method.SetShrinkFactorsPerLevel(shrink)
        method.SetSmoothingSigmasPerLevel([0.5 * (s - 1) for s in shrink])
        return method


BASELINES: dict[str, tuple[str, Callable[[], Method]]] = {
    "copy": ("copy", lambda: copy_prompt),
    "flow": ("flow", FlowMethod),
    "interpolate": ("interpolate (2 prompts)", Interpolation),
    "randomwalk": ("random walk", RandomWalk),
    "register": ("register", Registration),
}
"""By the name on the command line: title in tables, and what makes it."""


def _steps(task: Task) -> Iterator[tuple[int, int]]:
    """Slices outward from the prompt, each with the one before it."""
    if task.direction != "backward":
        yield from ((k - 1, k) for k in range(task.prompt + 1, task.stop))
    if task.direction != "forward":
        yield from ((k + 1, k) for k in range(task.prompt - 1, task.start - 1, -1))


def _unit(task: Task) -> npt.NDArray[np.float32]:
    """Image between 0 and 1: `(T, H, W)` or `(T, H, W, 3)`."""
    image = task.sequence.image.astype(np.float32)
    low, high = np.percentile(image[task.start : task.stop], (0.5, 99.5))
    scaled: npt.NDArray[np.float32] = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return scaled


def _grey(sequence: TrueSequence) -> npt.NDArray[np.uint8]:
    """Frames as optical flow wants them: `(T, H, W)` uint8."""
    image = sequence.image.astype(np.float32)
    grey = image.mean(-1) if image.ndim == 4 else image
    low, high = np.percentile(grey, (0.5, 99.5))
    scaled = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
    return np.asarray(scaled * 255, np.uint8)


def _window(mask: Mask, margin: int) -> Box:
    """Box around a mask with a margin."""
    box = box_of(mask)
    assert box is not None
    return widened(box, margin)
