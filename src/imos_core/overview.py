"""Contact sheet of a result: slices, the prompt, the labels, and the confidence of every slice."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from imos_core.label_ids import ids_on

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

    RGB = tuple[int, int, int]

_BACK: RGB = (24, 26, 31)
_TEXT: RGB = (235, 237, 240)
_FAINT: RGB = (150, 156, 166)
_PROMPT: RGB = (255, 209, 92)
# colours that stay apart for the colour-blind (Okabe and Ito), brightened for dark images
_COLOURS: tuple[RGB, ...] = (
    (86, 190, 245),
    (245, 168, 30),
    (40, 200, 150),
    (240, 120, 190),
    (245, 232, 80),
    (240, 105, 50),
    (110, 140, 255),
)
_MARGIN, _GAP, _STRIP = 28, 10, 22
_FILL = 0.28  # opacity


class _Panels(NamedTuple):
    width: int
    height: int


def contact_sheet(
    image: Any,
    labels: npt.NDArray[np.integer],
    prompts: Collection[int],
    *,
    confidence: Sequence[float] | npt.NDArray[np.floating] | None = None,
    truth: npt.NDArray[np.integer] | None = None,
    pixel: tuple[float, float] = (1.0, 1.0),
    title: str = "",
    captions: Mapping[int, str] | None = None,
    columns: int = 7,
    panel: int = 220,
) -> Image.Image:
    """Draw slices with the labels on them.

    Above each other: the slices, the same with the labels, and a strip that tells how sure each
    slice is. The prompt is framed::

        title
        [ 4 ] [12 ] [20*] [28 ] [36 ]      slices
        [   ] [   ] [   ] [   ] [   ]      with labels
        ||||||||||||||||||||||||||||||     confidence
        # 1 J&F 0.93   # 2 J&F 0.88

    Parameters
    ----------
    image : array-like
        `(T, H, W)` or `(T, H, W, 3)`, sliced one at a time.
    labels : ndarray of int
        `(T, H, W)`.
    prompts : collection of int
        Slices that were given.
    confidence : sequence of float, optional
        One number per slice, 0..1; NaN where there is none.
    truth : ndarray of int, optional
        `(T, H, W)`, drawn as a thin white line.
    pixel : (float, float)
        Height and width of a pixel, any unit.
    title : str
        First line.
    captions : mapping of int to str, optional
        Label id -> text behind its colour; by default the ids of `labels`.
    columns : int
        How many slices are shown.
    panel : int
        Longer side of a panel, in pixels of the sheet.

    Returns
    -------
    Image
        RGB.
    """
    shown = _choose(labels, prompts, columns)
    planes = {k: np.asarray(image[k]) for k in shown}
    limits = _limits(list(planes.values()))
    size = _panel_size(labels.shape[1:], pixel, panel)
    if captions is None:
        captions = {int(i): f"label {i}" for i in np.unique(labels)[:13] if i}
    fonts = {n: ImageFont.load_default(n) for n in (13, 15, 20)}
    width = 2 * _MARGIN + len(shown) * (size.width + _GAP) - _GAP
    legend = _legend_rows(captions, width - 2 * _MARGIN, fonts[15])
    top = _MARGIN + (38 if title else 0)
    first_row = top + 22
    second_row = first_row + size.height + _GAP
    strip = second_row + size.height + 40
    foot = strip + (_STRIP + 30 if confidence is not None else -22)
    height = foot + 26 * len(legend) + _MARGIN - 6
    sheet = Image.new("RGB", (width, height), _BACK)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((_MARGIN, _MARGIN - 6), title, _TEXT, fonts[20])
    for column, k in enumerate(shown):
        x = _MARGIN + column * (size.width + _GAP)
        plain = _grey_or_colour(planes[k], limits, size)
        sheet.paste(Image.fromarray(plain), (x, first_row))
        # the prompt is shown as it was given; on the other slices the truth is drawn as well
        line = None if truth is None or k in prompts else truth[k]
        sheet.paste(_painted(plain, labels[k], size, line), (x, second_row))
        caption, colour = (f"slice {k}", _FAINT)
        if k in prompts:
            caption, colour = (f"slice {k}: prompt", _PROMPT)
            box = (x - 3, first_row - 3, x + size.width + 2, second_row + size.height + 2)
            draw.rectangle(box, outline=_PROMPT, width=2)
        draw.text((x, first_row - 20), caption, colour, fonts[13])
    if confidence is not None:
        _draw_strip(draw, (_MARGIN, strip, width - _MARGIN), confidence, prompts, shown, fonts[13])
    for row, entries in enumerate(legend):
        for x, label, text in entries:
            y = foot + 26 * row
            draw.rounded_rectangle(
                (_MARGIN + x, y + 2, _MARGIN + x + 14, y + 16), 3, _colour(label)
            )
            draw.text((_MARGIN + x + 21, y), text, _TEXT, fonts[15])
    if truth is not None:
        note = "white line: truth, where it differs"
        draw.text((width - _MARGIN, _MARGIN), note, _FAINT, fonts[13], anchor="ra")
    return sheet


def _choose(labels: npt.NDArray[np.integer], prompts: Collection[int], columns: int) -> list[int]:
    """Slices spread evenly over those that hold labels, the first prompt among them."""
    filled = np.flatnonzero(labels.any(axis=(1, 2)))
    first, last = (filled[0], filled[-1]) if len(filled) else (0, len(labels) - 1)
    chosen = np.unique(np.linspace(first, last, columns).round().astype(int))
    if prompts:
        prompt = min(prompts)
        chosen[np.abs(chosen - prompt).argmin()] = prompt
    return sorted({int(k) for k in chosen})


def _panel_size(shape: tuple[int, ...], pixel: tuple[float, float], longest: int) -> _Panels:
    high, wide = shape[0] * pixel[0], shape[1] * pixel[1]
    factor = longest / max(high, wide)
    # a very thin slice still gets a panel that can be looked at
    return _Panels(max(round(wide * factor), longest // 4), max(round(high * factor), longest // 4))


def _limits(planes: Sequence[npt.NDArray[Any]]) -> tuple[float, float]:
    values = np.concatenate([p.ravel()[:: max(1, p.size // 20000)] for p in planes])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, (0.5, 99.7))
    return float(low), float(max(high, low + 1e-6))


def _grey_or_colour(
    plane: npt.NDArray[Any], limits: tuple[float, float], size: _Panels
) -> npt.NDArray[np.uint8]:
    low, high = limits
    if plane.ndim == 3 and plane.shape[-1] >= 3 and plane.dtype == np.uint8:
        low, high = 0.0, 255.0
    unit = np.nan_to_num((plane.astype(np.float32) - low) / (high - low)).clip(0, 1)
    pixels = (unit * 255).astype(np.uint8)
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]
    picture = Image.fromarray(pixels).convert("RGB")
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def _painted(
    plain: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    size: _Panels,
    truth: npt.NDArray[np.integer] | None,
) -> Image.Image:
    pixels = plain.astype(np.float32)
    masks = {i: _enlarged(labels == i, size) for i in ids_on(labels)}
    for label, mask in masks.items():
        pixels[mask] = (1 - _FILL) * pixels[mask] + _FILL * np.array(_colour(label), np.float32)
    # the truth lies below, so that white shows only where the result is elsewhere
    for label in np.unique(truth) if truth is not None else ():
        if label:
            edge = _rim(_enlarged(truth == label, size))
            pixels[edge] = 0.2 * pixels[edge] + 0.8 * 255
    for label, mask in masks.items():
        pixels[_rim(mask)] = _colour(label)
    return Image.fromarray(pixels.astype(np.uint8))


def _rim(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    rim: npt.NDArray[np.bool_] = mask & ~ndimage.binary_erosion(mask, border_value=1)
    return rim


def _enlarged(mask: npt.NDArray[np.bool_], size: _Panels) -> npt.NDArray[np.bool_]:
    """Mask at the size of a panel, with smooth edges."""
    soft = Image.fromarray(mask.astype(np.float32))
    if mask.shape[0] <= size.height and mask.shape[1] <= size.width:
        return np.asarray(soft.resize(size, Image.Resampling.BILINEAR)) >= 0.5
    # a small object would vanish in the mean of many pixels
    return np.asarray(soft.resize(size, Image.Resampling.BOX)) >= 0.3


def _colour(label: int) -> RGB:
    if 0 < label <= len(_COLOURS):
        return _COLOURS[label - 1]
    # steps by the golden ratio keep neighbouring ids apart
    red, green, blue = hsv_to_rgb(label * 0.618034 % 1, 0.62, 0.97)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_strip(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int],
    confidence: Sequence[float] | npt.NDArray[np.floating],
    prompts: Collection[int],
    shown: Sequence[int],
    font: Any,
) -> None:
    left, top, right = box
    values = np.asarray(confidence, float)
    edges = left + (np.arange(len(values) + 1) * (right - left) / len(values)).round().astype(int)
    draw.text((left, top - 20), "confidence of every slice", _FAINT, font)
    draw.text((right, top - 20), "sure", _FAINT, font, anchor="ra")
    for step in range(60):
        x = right - 96 + step
        draw.line((x, top - 16, x, top - 8), _shade(0.5 + 0.5 * step / 59))
    draw.text((right - 102, top - 20), "unsure", _FAINT, font, anchor="ra")
    draw.rectangle((left, top, right - 1, top + _STRIP - 1), (45, 48, 56))
    # slices may share a pixel, in which the least sure one is seen
    for k in np.argsort(-values, kind="stable").tolist():
        if np.isfinite(values[k]):
            first, last = min(int(edges[k]), right - 1), int(edges[k + 1]) - 1
            gap = 1 if last - first >= 4 else 0
            span = (first, top, max(first, last - gap), top + _STRIP - 1)
            draw.rectangle(span, _PROMPT if k in prompts else _shade(float(values[k])))
    for k in shown:
        middle = (int(edges[k]) + int(edges[k + 1])) // 2
        colour = _PROMPT if k in prompts else _FAINT
        y = top + _STRIP + 3
        draw.polygon(((middle, y), (middle - 4, y + 6), (middle + 4, y + 6)), colour)


def _shade(value: float) -> RGB:
    """Red at 0.5 and below, yellow, green at 1."""
    stops = np.array([(196, 66, 60), (222, 150, 60), (92, 170, 96)], float)
    at = np.clip((value - 0.5) / 0.5, 0, 1) * 2
    red, green, blue = (np.interp(at, (0, 1, 2), stops[:, c]) for c in range(3))
    return int(red), int(green), int(blue)


def _legend_rows(
    captions: Mapping[int, str], width: int, font: Any
) -> list[list[tuple[int, int, str]]]:
    """Entries `(x, label, text)`, as many to a row as fit."""
    rows: list[list[tuple[int, int, str]]] = []
    x = width + 1
    for label, text in captions.items():
        length = int(font.getlength(text)) + 46
        if x + length > width:
            rows.append([])
            x = 0
        rows[-1].append((x, label, text))
        x += length
    return rows
