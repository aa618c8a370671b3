"""Arrays as training takes them: grey or colour images in bytes, labels in their smallest type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def as_image(
    pixels: npt.NDArray[Any], labels: npt.NDArray[np.integer], *, colours: bool
) -> npt.NDArray[np.uint8]:
    """Bring an image to bytes, `(T, H, W)` or `(T, H, W, 3)`.

    Parameters
    ----------
    pixels : ndarray
        `(T, H, W)`, or with one to four channels on top: the fourth is alpha and ignored, and of
        two the first counts, as at inference.
    labels : ndarray of int
        `(T, H, W)`.
    colours : bool
        Whether there are channels.
    """
    if colours:
        pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]
    return as_bytes(pixels, labels)


def as_bytes(pixels: npt.NDArray[Any], labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Bytes of `(T, H, W)` or `(T, H, W, 3)`, stretched by the percentiles near the objects."""
    if pixels.dtype == np.uint8:
        return pixels
    painted = np.flatnonzero(labels.any((1, 2)))
    near = painted if len(painted) else np.arange(len(pixels))
    sample = pixels[near[:: max(len(near) // 9, 1)], ::2, ::2].astype(np.float32)
    sample = sample[np.isfinite(sample)]
    low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5))) if sample.size else (0, 0)
    if not low < high:
        low, high = (float(sample.min()), float(sample.max())) if sample.size else (0, 0)
    scale = 255 / (high - low) if low < high else 0.0
    # slice by slice, as floats take four times the room of the result
    planes = [np.nan_to_num((p.astype(np.float32) - low) * scale).clip(0, 255) for p in pixels]
    return np.stack([np.rint(p).astype(np.uint8) for p in planes])


def as_labels(labels: npt.NDArray[Any]) -> npt.NDArray[np.integer]:
    """Labels in the smallest type; below 0 is background, far-off numbers are renumbered."""
    if labels.dtype.kind == "i":
        labels = np.maximum(labels, 0)
    if labels.max() > np.iinfo(np.uint16).max:
        values, places = np.unique(labels, return_inverse=True)
        first = 0 if values[0] == 0 else 1
        labels = places.reshape(labels.shape) + first
    return labels.astype(np.min_scalar_type(int(labels.max())))
