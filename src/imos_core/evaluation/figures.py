"""The paper's figures, drawn from results at hand: PNG pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.boxes import box_of
from imos_core.errors import FileError
from imos_core.evaluation.report import DIRECTIONS, by_modality
from imos_core.metrics import jaccard

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imos_core.evaluation.gallery import Example
    from imos_core.evaluation.protocols import Protocol
    from imos_core.evaluation.scoring import Result

    Masks = npt.NDArray[np.bool_]

TRUTH = "#f0e442"
"""Colour of true outlines."""
# Okabe and Ito's palette, which stays apart for the colour-blind, without the yellow of the truth
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444")
RESULT = "#ff5a36"
"""Colour of outlines that a method found."""
_COLUMNS = 6
_PANEL = 1.75  # inches
_DPI = 110


def check_matplotlib() -> None:
    """Refuse early where figures cannot be drawn.

    Raises
    ------
    FileError
        If matplotlib is not installed.
    """
    try:
        import matplotlib as _matplotlib  # noqa: F401
    except ImportError as error:
        raise FileError(
            'The HTML report needs matplotlib: pip install "napari-imos[evaluate]".'
        ) from error


def overlays(example: Example, protocol: Protocol, methods: Sequence[str]) -> bytes:
    """Figure 5: the prompt and slices after it; truth and result as outlines.

    Parameters
    ----------
    example : Example
        What is drawn.
    protocol : str
        Protocol.
    methods : sequence of str
        One row each.

    Returns
    -------
    bytes
        PNG.
    """
    rows = [(m, protocol, m) for m in methods]
    return _strips(example, rows, _slices(example, protocol))


def directions(example: Example, method: str) -> bytes:
    """Figure 7: the same slices forward, backward and both ways.

    Parameters
    ----------
    example : Example
        What is drawn.
    method : str
        Whose masks.

    Returns
    -------
    bytes
        PNG.
    """
    there = [p for p in DIRECTIONS if p in example.tasks]
    present = np.flatnonzero(example.truth.any(axis=(1, 2)))
    places = np.linspace(present[0], present[-1], _COLUMNS).round().astype(int)
    slices = sorted({int(k) for k in places} | {t.prompt for t in example.tasks.values()})
    rows = [(DIRECTIONS[p], p, method) for p in there]
    return _strips(example, rows, slices)


def planes(example: Example, protocol: Protocol, method: str) -> bytes:
    """Figure 6: three orthogonal planes through the object, to scale.

    Parameters
    ----------
    example : Example
        A volume.
    protocol : str
        Protocol.
    method : str
        Whose masks.

    Returns
    -------
    bytes
        PNG.
    """
    truth, found = example.truth, example.masks(protocol, method)
    assert found is not None
    image, spacing = example.sequence.image, example.sequence.spacing
    point = [int(np.median(i)) for i in np.nonzero(truth)]
    both: Masks = truth | found
    box = _box(np.asarray(both.any(0)), 0.35)
    through = slice(0, len(truth))
    figure = _figure(3 * 2.9, 3.1)
    axes = figure.subplots(1, 3)
    views = (
        (f"slice {point[0]}", 0, (*box,), (1, 2)),
        (f"row {point[1]}", 1, (through, box[1]), (0, 2)),
        (f"column {point[2]}", 2, (through, box[0]), (0, 1)),
    )
    limits = _limits(image)
    for ax, (title, axis, window, sides) in zip(axes, views, strict=True):
        aspect = spacing[sides[0]] / spacing[sides[1]]
        planes_of = [np.take(a, point[axis], axis)[window] for a in (image, truth, found)]
        _show(ax, planes_of[0], limits, aspect)
        _outline(ax, planes_of[1], TRUTH)
        _outline(ax, planes_of[2], RESULT)
        ax.set_title(title, fontsize=9)
        if axis:
            # where the prompt was
            ax.axhline(example.tasks[protocol].prompt, color="white", lw=0.8, ls=":")
    return _png(figure)


def curves(results: Sequence[Result], protocol: Protocol) -> bytes:
    """J over the distance from the prompt, one panel per modality, one line per method.

    Parameters
    ----------
    results : sequence of Result
        Results of any number of methods.
    protocol : str
        Protocol.

    Returns
    -------
    bytes
        PNG.
    """
    methods = list(dict.fromkeys(r.method for r in results))
    groups = by_modality([r for r in results if r.protocol == protocol])
    # what has one distance only is a point, which a table says better
    groups = {m: g for m, g in groups.items() if max(_far(g), default=0) > 1} or groups
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    figure = _figure(3.4 * columns, 2.5 * lines + 0.4)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for ax, (name, group) in zip(axes, groups.items(), strict=False):
        for i, method in enumerate(methods):
            _curve(ax, [r for r in group if r.method == method], _COLOURS[i % len(_COLOURS)])
        count_of = len({(r.sequence, r.label) for r in group})
        ax.set_title(f"{name} ({count_of} object{'' if count_of == 1 else 's'})", fontsize=9)
        ax.set_ylim(-0.02, 1.02)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(groups) :]:
        ax.set_axis_off()
    for ax in axes[::columns]:
        ax.set_ylabel("J")
    for ax in axes[max(0, len(groups) - columns) : len(groups)]:
        ax.set_xlabel("slices from the prompt")
    lines_of = {
        label: line
        for ax in axes
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    shown = [m for m in methods if m in lines_of]
    _legend(figure, [lines_of[m] for m in shown], shown, min(5 if columns > 1 else 2, len(shown)))
    return _png(figure)


def _curve(ax: Axes, results: Sequence[Result], colour: str) -> None:
    """Draw the mean J of a method at each distance from the prompt."""
    distance = np.array(_far(results), int)
    if not len(distance):
        return
    j = np.array([v for r in results for _, v in r.by_slice], float)
    count = np.bincount(distance)
    x = np.flatnonzero(count)
    y = np.bincount(distance, j)[x] / count[x]
    style = "o-" if len(x) < 15 else "-"
    ax.plot(x, y, style, color=colour, ms=3, lw=1.4, label=results[0].method)


def _legend(figure: Figure, lines: Sequence[Any], labels: Sequence[str], columns: int) -> None:
    figure.legend(
        lines, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )


def bars(results: Sequence[Result], methods: Sequence[str]) -> bytes:
    """J&F by direction, mean over the objects of each modality, one panel per method.

    Parameters
    ----------
    results : sequence of Result
        Results under more than one protocol.
    methods : sequence of str
        Methods.

    Returns
    -------
    bytes
        PNG.
    """
    modalities = sorted({r.modality for r in results})
    protocols = [p for p in DIRECTIONS if any(r.protocol == p for r in results)]
    figure = _figure(max(5.0, 1.0 * len(modalities) + 1), 2.4 * len(methods) + 0.4)
    axes = figure.subplots(len(methods), 1, squeeze=False, sharex=True).ravel()
    width = 0.8 / len(protocols)
    for ax, method in zip(axes, methods, strict=True):
        for i, protocol in enumerate(protocols):
            values = [
                [
                    r.mean
                    for r in results
                    if (r.method, r.protocol, r.modality) == (method, protocol, m)
                ]
                for m in modalities
            ]
            at = np.arange(len(modalities)) + (i - (len(protocols) - 1) / 2) * width
            heights = [float(np.mean(v)) if v else 0.0 for v in values]
            ax.bar(at, heights, width * 0.92, color=_COLOURS[i], label=DIRECTIONS[protocol])
        ax.set_title(method, fontsize=9)
        ax.set_ylabel("J&F")
        ax.set_ylim(0, 1)
        ax.grid(axis="y", alpha=0.25)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xticks(range(len(modalities)), modalities, rotation=20 if len(modalities) > 4 else 0)
    lines, labels = axes[0].get_legend_handles_labels()
    _legend(figure, lines, labels, 3)
    return _png(figure)


def _far(results: Iterable[Result]) -> list[int]:
    return [d for r in results for d, _ in r.by_slice]


def _slices(example: Example, protocol: Protocol) -> list[int]:
    """The prompt, and slices spread over those that truly show the object."""
    prompt = example.tasks[protocol].prompt
    present = np.flatnonzero(example.truth.any(axis=(1, 2)))
    others = present[present != prompt]
    # the far ends are where it gets hard: the last one is always among them
    places = np.linspace(0, len(others) - 1, min(_COLUMNS - 1, len(others))).round().astype(int)
    return sorted({prompt, *(int(others[k]) for k in places)})


def _strips(
    example: Example, rows: Sequence[tuple[str, Protocol, str]], slices: Sequence[int]
) -> bytes:
    """Rows of slices, each of a title, a protocol and a method."""
    truth = example.truth
    found = [example.masks(protocol, method) for _, protocol, method in rows]
    both: Masks = np.asarray(truth[slices].any(0))
    for masks in found:
        if masks is not None:
            both = both | masks[slices].any(0)
    box = _box(both, 0.25)
    spacing = example.sequence.spacing
    aspect = spacing[1] / spacing[2]
    limits = _limits(example.sequence.image)
    high = (box[0].stop - box[0].start) * aspect / (box[1].stop - box[1].start)
    panel = _PANEL * min(1.6, max(0.5, high))
    figure = _figure(_PANEL * len(slices) + 0.3, len(rows) * (panel + 0.18) + 0.25)
    axes = figure.subplots(len(rows), len(slices), squeeze=False)
    for line, (title, protocol, method), masks in zip(axes, rows, found, strict=True):
        task = example.tasks[protocol]
        given = example.given.get((protocol, method), (task.prompt,))
        for ax, k in zip(line, slices, strict=True):
            _show(ax, example.sequence.image[k][box], limits, aspect)
            _outline(ax, truth[k][box], TRUTH)
            if k in given:
                for spine in ax.spines.values():
                    spine.set(visible=True, color=TRUTH, linewidth=2.5)
                ax.set_title(f"slice {k}: prompt", fontsize=8, fontweight="bold")
                continue
            text = f"slice {k}"
            if masks is not None and task.start <= k < task.stop:
                _outline(ax, masks[k][box], RESULT)
                text += f"   J {float(jaccard(masks[k], truth[k])):.2f}"
            ax.set_title(text, fontsize=8)
        line[0].set_ylabel(title, fontsize=9)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    # not pyplot, which keeps figures and picks a backend for the whole process
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    return buffer.getvalue()


def _show(ax: Axes, plane: npt.NDArray[Any], limits: tuple[float, float], aspect: float) -> None:
    low, high = limits
    unit = np.clip((plane.astype(np.float32) - low) / (high - low), 0, 1)
    ax.imshow(unit, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _outline(ax: Axes, mask: npt.NDArray[np.bool_], colour: str) -> None:
    if mask.any():
        # an empty rim closes outlines that would run into the edge of the panel
        height, width = mask.shape
        x, y = np.arange(-1, width + 1), np.arange(-1, height + 1)
        ax.contour(x, y, np.pad(mask, 1).astype(float), [0.5], colors=[colour], linewidths=1.2)
        ax.set_xlim(-0.5, width - 0.5)
        ax.set_ylim(height - 0.5, -0.5)


def _limits(image: npt.NDArray[Any]) -> tuple[float, float]:
    if image.ndim == 4:
        return 0.0, float(max(1, image.max()))
    low, high = np.percentile(image.ravel()[:: max(1, image.size // 200_000)], (0.5, 99.7))
    return float(low), float(max(high, low + 1e-6))


def _box(mask: npt.NDArray[np.bool_], margin: float) -> tuple[slice, slice]:
    """Square around a mask `(H, W)` with a margin, as far as the image goes."""
    tight = box_of(mask)
    assert tight is not None
    side = max(round(max(s.stop - s.start for s in tight) * (1 + 2 * margin)), 24)
    box = []
    for found, length in zip(tight, mask.shape, strict=True):
        start = min(max((found.start + found.stop - side) // 2, 0), max(length - side, 0))
        box.append(slice(start, min(start + side, length)))
    return box[0], box[1]
