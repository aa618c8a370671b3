"""Lesions: irregular, faint, with nested parts, in brain-like or plain tissue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imos_core.synthetic.bodies import forked, new_canvas, patch_of, random_body, with_domes
from imos_core.synthetic.fields import curve, noise
from imos_core.synthetic.scanners import mr_scan

if TYPE_CHECKING:
    import numpy.typing as npt

    from imos_core.synthetic.bodies import Canvas
    from imos_core.synthetic.fields import Field, Labels, Shape


def lesions(rng: np.random.Generator, shape: Shape) -> tuple[Field, Labels]:
    """Irregular, faint lesions with nested parts, as brain tumours in MRI."""
    size = min(shape[1:])
    canvas = new_canvas(rng, shape)
    white, grey = rng.uniform(0.35, 0.75), rng.uniform(0.35, 0.75)
    fluid = rng.choice([rng.uniform(0.02, 0.2), rng.uniform(0.85, 1.1)])
    clean, home, csf = _head(rng, canvas, (white, grey, fluid))
    labels = np.zeros(shape, np.uint16)
    contrast = rng.choice([-1, 1, 1]) * rng.uniform(0.05, 0.4)
    ragged = noise(rng, shape, (2.5, size / 18, size / 18)) * 0.6 + noise(
        rng, shape, (4, size / 9, size / 9)
    )
    texture = noise(rng, shape, (1.5, 2.5, 2.5)) + noise(rng, shape, (2.5, 6, 6))
    texture *= np.float32(abs(contrast) * rng.uniform(0.05, 0.4))
    nested = rng.random() < 0.6
    for _ in range(int(rng.integers(1, 4) if nested else rng.integers(2, 9))):
        extent = rng.uniform(0.07, 0.22) if nested else rng.uniform(0.025, 0.12)
        depth = _blob(rng, canvas, size * extent, ragged)
        inside = (depth > 0) & home & ~(csf & (depth < 0.6 * size * extent))
        if not inside.any():
            continue
        soft = np.clip(depth / rng.uniform(0.8, 4), 0, 1) * inside  # borders are gradual
        clean += soft * (np.float32(contrast) + texture + white - clean)
        first = int(labels.max()) + 1
        labels[inside] = first
        if nested:
            _put_core(rng, clean, labels, inside, (depth, size * extent, contrast, ragged))
    if nested and rng.random() < 0.3:
        labels = (labels > 0).astype(np.uint16)  # the whole lesion as one object
    return mr_scan(rng, np.clip(clean, 0, None)), labels


def _blob(rng: np.random.Generator, canvas: Canvas, radius: float, ragged: Field) -> Field:
    """Return the depth below the ragged surface of a lesion; most end within the volume."""
    shape = canvas.material.shape
    t, h, w = shape
    middle, length = rng.uniform(0, 1) * t, max(t * rng.uniform(0.08, 0.6), 1.5)
    place = (middle, h * rng.uniform(0.25, 0.75), w * rng.uniform(0.25, 0.75))
    body = random_body(rng, shape, radius, length, place)._replace(roughness=0.0)
    body = with_domes(rng, body, (middle - length, middle + length))
    depth = np.full(shape, -1e3, np.float32)
    for part in [body, forked(rng, body)] if rng.random() < 0.4 else [body]:
        patch = patch_of(canvas, part)
        if patch is not None:
            # lobes grow with the section, else they would outlive it
            scale = (part.radius[patch.box[0]] * np.float32(rng.uniform(0.1, 0.35)))[:, None, None]
            fresh = patch.depth + scale * ragged[patch.box]
            shown = (part.radius[patch.box[0]] > 0.5)[:, None, None]
            fresh = np.where(shown, fresh, np.float32(-1e3))
            depth[patch.box] = np.maximum(depth[patch.box], fresh)
    return depth


def _put_core(
    rng: np.random.Generator,
    clean: Field,
    labels: Labels,
    inside: npt.NDArray[np.bool_],
    lesion: tuple[Field, float, float, Field],
) -> None:
    """Draw an enhancing rim and a dead core inside a lesion, as objects of their own."""
    depth, radius, contrast, ragged = lesion
    number = int(labels.max())
    level = depth + 0.15 * radius * np.roll(ragged, 7, 2)
    rim = inside & (level > radius * rng.uniform(0.3, 0.55))
    core = rim & (level > radius * rng.uniform(0.5, 0.75))
    for part, factor in ((rim, rng.uniform(1.2, 2.5)), (core, rng.uniform(-1.5, 0.6))):
        if part.any():
            clean[part] += np.float32(contrast * (factor - 1))
            number += 1
            labels[part] = number


def _head(
    rng: np.random.Generator, canvas: Canvas, levels: tuple[float, float, float]
) -> tuple[Field, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Draw tissue for lesions: clean intensities, where tissue is, and where fluid is."""
    shape = canvas.material.shape
    t, h, w = shape
    size = min(h, w)
    white, grey, fluid = levels
    clean = np.full(shape, 0.01, np.float32)
    radius = size * rng.uniform(0.34, 0.56)
    outline = random_body(rng, shape, radius, 1e4, (t / 2, h / 2, w / 2), drift=0.05)
    taper = 1 + rng.uniform(-0.4, 0.4) * np.linspace(-1, 1, t)
    dome = np.sqrt(np.clip(taper, 0.05, 1.3)) + 0.02 * curve(rng, t, 9)
    outline = outline._replace(
        radius=(outline.radius.mean() * dome).astype(np.float32),
        flatness=np.full(t, rng.uniform(0.75, 1), np.float32),
        roughness=outline.roughness * 0.3,
    )
    calm = canvas._replace(dy=canvas.dy * np.float32(0.35), dx=canvas.dx * np.float32(0.35))
    patch = patch_of(calm, outline)
    depth = np.full(shape, -1e3, np.float32)
    if patch is not None:
        depth[patch.box] = patch.depth
    # a ribbon of grey matter that folds: its depth below the surface varies with a field
    folds = noise(rng, shape, (3, size / 12, size / 12)) * np.float32(size * 0.035)
    ribbon = size * rng.uniform(0.02, 0.05)
    skull = rng.random() < 0.4
    shell = size * 0.05 if skull else 0.0
    surface = depth - np.float32(shell)
    home = surface > 0
    clean[home] = white
    clean[home & (surface + folds < ribbon)] = grey
    clean[home & (np.abs(folds) < size * 0.012) & (surface < 4 * ribbon)] = grey
    sulci = home & (np.abs(folds) < size * 0.004) & (surface < 3 * ribbon)
    clean[home & (noise(rng, shape, (5, size / 8, size / 8)) > 1.4)] = grey  # deep nuclei
    csf = sulci | (home & (surface < 1.2))
    for side in (-1, 1):  # ventricles
        if rng.random() < 0.7:
            place = (t * rng.uniform(0.2, 0.8), h * 0.5, w * (0.5 + side * rng.uniform(0.04, 0.1)))
            horn = random_body(rng, shape, size * rng.uniform(0.03, 0.1), t * 0.5, place, 0.6)
            found = patch_of(canvas, horn._replace(flatness=horn.flatness * 0.6))
            if found is not None:
                csf[found.box] |= found.inside & home[found.box]
    clean[csf] = fluid
    if skull:
        clean[(depth > 0) & (depth < shell * 0.45)] = rng.uniform(0.6, 1)  # scalp
        clean[(depth >= shell * 0.45) & (depth < shell)] = rng.uniform(0.02, 0.15)  # bone
    texture = noise(rng, shape, (2, 4, 4)) * np.float32(rng.uniform(0.005, 0.04))
    return clean + texture * home, home, csf
