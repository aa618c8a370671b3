"""From clean intensities to the bytes of a scanner or microscope."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from imos_core.synthetic.fields import curve, noise

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.fields import Field


def acquire(rng: np.random.Generator, clean: Field) -> npt.NDArray[np.uint8]:
    """Blur, shade, drift and noise of a scanner or microscope."""
    t = len(clean)
    blur = rng.uniform(0.35, 1.3)
    image = gaussian_filter(clean, (rng.uniform(0, 0.6), blur, blur), truncate=2.5)
    shape = image.shape
    bias = noise(rng, shape, (t + 4, shape[1] / 2, shape[2] / 2)) * rng.uniform(0, 0.12)
    gain = 1 + rng.uniform(0, 0.08) * curve(rng, t, 6) + rng.normal(0, rng.uniform(0, 0.04), t)
    image *= (1 + bias) * gain[:, None, None].astype(np.float32)
    white = rng.standard_normal(shape, dtype=np.float32)
    if rng.random() < 0.5:  # the noise of reconstructed images is correlated
        white = gaussian_filter1d(gaussian_filter1d(white, 0.6, 1, truncate=2), 0.6, 2, truncate=2)
    amplitude = np.float32(rng.uniform(0.01, 0.09))
    if rng.random() < 0.4:  # photon noise grows with the signal
        white *= np.sqrt(np.clip(image, 0, None)) + np.float32(0.1)
    image += amplitude * white
    if rng.random() < 0.15:
        image = image.max() - image
    return to_uint8(rng, image)


def to_uint8(rng: np.random.Generator, image: Field) -> npt.NDArray[np.uint8]:
    """Choose an intensity window and a gamma, as a person at a display would."""
    sample = image[:, ::3, ::3]
    low, high = np.percentile(sample, [rng.uniform(0, 1.5), rng.uniform(98.5, 100)])
    image = np.clip((image - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    image **= np.float32(rng.uniform(0.75, 1.35))
    floor, ceiling = rng.uniform(0, 30), rng.uniform(190, 255)
    return (floor + (ceiling - floor) * image + 0.5).astype(np.uint8)


def as_bytes(rng: np.random.Generator, image: Field) -> npt.NDArray[np.uint8]:
    """Turn 0..1 into bytes, for makers whose images went through a scanner or camera already."""
    ceiling = rng.uniform(200, 255)
    return (np.clip(image, 0, 1) * np.float32(ceiling) + np.float32(0.5)).astype(np.uint8)
