"""What a CT or MR scanner makes of clean slices: partial volume, noise, shading, window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from imos_core.synthetic.fields import curve, noise

if TYPE_CHECKING:
    from imos_core.synthetic.fields import Field

_WINDOWS = ((-160.0, 240.0), (-100.0, 220.0), (-250.0, 450.0), (-1000.0, 600.0), (-300.0, 1200.0))
_USUAL = (0.4, 0.25, 0.2, 0.08, 0.07)  # how often people look at CT through each of them


def ct_scan(rng: np.random.Generator, hounsfield: Field) -> Field:
    """Scan a volume of Hounsfield units: values 0..1 of a display window."""
    image = _partial_volume(rng, hounsfield)
    noisy = rng.standard_normal(image.shape, dtype=np.float32)
    grain = rng.uniform(0.4, 0.9)  # reconstruction correlates neighbours
    noisy = gaussian_filter1d(gaussian_filter1d(noisy, grain, 1, truncate=2), grain, 2, truncate=2)
    image += noisy * np.float32(rng.choice([rng.uniform(3, 15), rng.uniform(10, 60)]))
    if rng.random() < 0.15:  # streaks, as metal and shoulders throw them
        rows = np.arange(image.shape[1], dtype=np.float32)[:, None]
        columns = np.arange(image.shape[2], dtype=np.float32)
        angle = rng.uniform(0, np.pi)
        waves = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * rng.uniform(0.3, 1.2))
        strength = curve(rng, len(image), 4)[:, None, None] * rng.uniform(5, 25)
        image += (waves * strength).astype(np.float32)
    low, high = _WINDOWS[rng.choice(len(_WINDOWS), p=_USUAL)]
    low, high = low + rng.normal(0, 30), high + rng.normal(0, 40)
    windowed: Field = np.clip((image - np.float32(low)) / np.float32(high - low), 0, 1)
    return windowed


def mr_scan(rng: np.random.Generator, clean: Field) -> Field:
    """Scan a volume of magnitudes (about 0..1): values 0..1."""
    image = _partial_volume(rng, clean)
    t, h, w = image.shape
    bias = noise(rng, image.shape, (t + 4, h / rng.uniform(1, 2.5), w / rng.uniform(1, 2.5)))
    gain = 1 + rng.uniform(0, 0.06) * curve(rng, t, 6) + rng.normal(0, rng.uniform(0, 0.03), t)
    image *= np.exp(rng.uniform(0, 0.25) * bias) * gain[:, None, None].astype(np.float32)
    sigma = np.float32(rng.uniform(0.005, 0.06))
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.hypot(real, imaginary)  # Rician
    low, high = np.percentile(image[:, ::3, ::3], [rng.uniform(0, 1), rng.uniform(98.5, 99.9)])
    image = np.clip((image - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    shown: Field = image ** np.float32(rng.uniform(0.75, 1.3))
    return shown


def _partial_volume(rng: np.random.Generator, clean: Field) -> Field:
    """Blur as thick slices and coarse pixels do."""
    blur = rng.uniform(0.35, 1.1)
    through = rng.choice([rng.uniform(0, 0.35), rng.uniform(0.3, 0.8)])
    blurred: Field = gaussian_filter(clean, (through, blur, blur), truncate=2.5)
    return blurred
