"""The report of an evaluation: one HTML file with tables and figures that needs nothing else."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from imos_core.evaluation import figures, report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imos_core.evaluation.gallery import Example, Gallery
    from imos_core.evaluation.protocols import Protocol
    from imos_core.evaluation.scoring import Result

_FEWEST_SLICES = 6  # of a volume that is worth looking at from the side
_VOLUMES = 4

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d232b; background: #fff; margin: 0 auto;
  max-width: 1160px; padding: 2rem 1.2rem 5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .4rem; } h2 { font-size: 1.25rem; margin: 3rem 0 .4rem; }
h2 a { color: inherit; text-decoration: none; } h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
p { margin: .3rem 0 .8rem; max-width: 75ch; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
figure { margin: 1rem 0 1.6rem; } figcaption { font-weight: 600; margin-bottom: .3rem; }
.wide { overflow-x: auto; } img { max-width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .7rem .18rem 0; text-align: right; white-space: nowrap; }
th.name, td.name { text-align: left; }
thead th { border-bottom: 2px solid #1d232b; }
tr.first td { border-top: 1px solid #cfd6de; } tr.sum td { font-weight: 600; }
.note, .small { color: #55606c; font-size: .87rem; }
.key { display: inline-block; width: 1.4em; height: .35em; vertical-align: middle;
  margin-right: .3em; outline: 1px solid #8a94a0; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 0; max-width: 75ch; }
"""

_TERMS = {
    "J": "Jaccard index of the masks of a slice, mean over the slices of an object (DAVIS).",
    "F": "F-measure of the contours, within 0.008 of the image's diagonal (DAVIS).",
    "J&F": "Mean of both. The prompt is known and does not count.",
    "mean (deviation)": "Over objects, which all count alike; mean of modalities: over the means "
    "of the modalities.",
    "surface Dice": "Share of both surfaces that lies within the tolerance of the other one "
    "(unless set otherwise two pixels of a slice). Volumes have one surface, prompt included, "
    "or it would be cut in two; videos have a contour in every frame, and the mean is shown. "
    "As MONAI computes it, by area.",
    "HD95": "The larger one of the 95th percentiles of the distances from each surface to the "
    "other, in units of the spacing; where one of both is missing there is no distance.",
    "leak, leaking": "What is found on slices beyond the ends of the object: mean area as a share "
    "of the object's largest one, and share of those slices that are not empty.",
    "interpolate (2 prompts)": "Is given the object's first and last slice, the others one slice.",
}


@dataclass
class _Page:
    """Sections, numbered figures."""

    sections: list[tuple[str, list[str]]] = field(default_factory=list)

    def section(self, title: str, text: str = "") -> None:
        self.sections.append((title, [f"<p>{text}</p>"] if text else []))

    def add(self, *parts: str) -> None:
        self.sections[-1][1].extend(parts)

    def html(self, title: str, lead: str) -> str:
        ids = [f"s{i}" for i in range(len(self.sections))]
        links = "".join(
            f'<a href="#{i}">{escape(name)}</a>'
            for i, (name, _) in zip(ids, self.sections, strict=True)
        )
        body = "".join(
            f'<section id="{i}"><h2>{escape(name)}</h2>{"".join(parts)}</section>'
            for i, (name, parts) in zip(ids, self.sections, strict=True)
        )
        return (
            "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
            '<meta name=viewport content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
            f"<body><h1>{escape(title)}</h1>{lead}<nav>{links}</nav>{body}</body></html>\n"
        )


def html_report(
    results: Sequence[Result], gallery: Gallery, models: Sequence[str], *, data: str
) -> str:
    """Write the report.

    Parameters
    ----------
    results : sequence of Result
        Everything that was scored.
    gallery : Gallery
        What is drawn.
    models : sequence of str
        Those of the methods that are models: the base first, then what was tuned from it.
    data : str
        Name of the data.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    FileError
        If matplotlib is not installed.
    """
    figures.check_matplotlib()
    page = _Page()
    protocols = list(dict.fromkeys(r.protocol for r in results))
    methods = list(dict.fromkeys(r.method for r in results))
    shown = [m for m in models if m in methods] or methods
    beside = (
        " Models as given: the base, then what was tuned from it, is the paper's Table 2."
        if len(shown) > 1
        else ""
    )
    page.section("Scores by modality", f"Mean over objects, deviation in brackets.{beside}")
    page.add(*(t.html() for t in report.score_tables(results)))
    if categories := report.category_tables(results):
        page.section("Scores by category", "As in the paper's Table 3: unseen ones have a star.")
        page.add(*(t.html() for t in categories))
    _add_overlays(page, gallery.examples, protocols[0], methods)
    _add_planes(page, gallery.examples, protocols, shown)
    if len(protocols) > 1:
        _add_directions(page, gallery.examples, results, shown)
    _add_curves(page, results, protocols)
    page.section("Time and memory")
    page.add(report.cost_table(results).html())
    page.section("What the words mean")
    terms = {k: v for k, v in _TERMS.items() if not k.startswith("interpolate") or k in methods}
    page.add(
        "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in terms.items())
    )
    page.add("</dl>")
    objects = len({(r.modality, r.sequence, r.label) for r in results})
    sequences = len({(r.modality, r.sequence) for r in results})
    lead = (
        f"<p>{_count(objects, 'object')} of {_count(sequences, 'sequence')} in "
        f"<b>{escape(data)}</b>; methods: {escape(', '.join(methods))}; protocols: "
        f"{escape(', '.join(f'{p} ({report.DIRECTIONS[p]})' for p in protocols))}. "
        "One object at a time, one painted slice each unless the method says otherwise.</p>"
    )
    return page.html("iMOS: evaluation", lead)


def _add_overlays(
    page: _Page, examples: dict[str, Example], protocol: Protocol, methods: Sequence[str]
) -> None:
    page.section(
        "Slices, by modality",
        "As in the paper's Figure 5. Of each modality the object that is in most slices, whatever "
        f"its scores; protocol {protocol} ({report.DIRECTIONS[protocol]}), the prompt is framed. "
        + _key(),
    )
    for modality, example in examples.items():
        if protocol in example.tasks:
            there = [m for m in methods if m in example.methods(protocol)]
            picture = figures.overlays(example, protocol, there)
            page.add(_picture(_title(modality, example), picture))


def _add_planes(
    page: _Page,
    examples: dict[str, Example],
    protocols: Sequence[Protocol],
    shown: Sequence[str],
) -> None:
    volumes = {
        m: e
        for m, e in examples.items()
        if e.sequence.axis == "z" and e.sequence.image.ndim == 3 and e.size[0] >= _FEWEST_SLICES
    }
    if not volumes:
        return
    # of both ways the most can be seen: the whole volume is filled from within
    protocol: Protocol = "middle" if "middle" in protocols else protocols[0]
    page.section(
        "Volumes from three sides",
        f"As in the paper's Figure 6: three orthogonal planes, to scale; protocol {protocol} "
        f"({report.DIRECTIONS[protocol]}), the dotted line is the prompt. " + _key(),
    )
    for modality, example in list(volumes.items())[:_VOLUMES]:
        for method in shown:
            if method in example.methods(protocol):
                picture = figures.planes(example, protocol, method)
                page.add(_picture(f"{_title(modality, example)}: {method}", picture))


def _add_directions(
    page: _Page, examples: dict[str, Example], results: Sequence[Result], shown: Sequence[str]
) -> None:
    page.section(
        "Forward, backward, both ways",
        "As in the paper's Figure 7. Forward and backward are scored from the object's first to "
        "its last slice, both ways through the whole sequence, ends included. " + _key(),
    )
    page.add(_picture("J&F by direction", figures.bars(results, shown)))
    page.add(report.direction_table(results).html())
    for modality, example in examples.items():
        if len(example.tasks) > 1 and example.size[0] > 2:
            picture = figures.directions(example, shown[-1])
            page.add(_picture(f"{_title(modality, example)}: {shown[-1]}", picture))


def _add_curves(page: _Page, results: Sequence[Result], protocols: Sequence[Protocol]) -> None:
    known = [p for p in protocols if any(r.by_slice for r in results if r.protocol == p)]
    if not known:
        return
    page.section(
        "J over the distance from the prompt",
        "Mean over all slices at that distance which truly show their object. Far out there are "
        "few: only long objects reach there. With two prompts the nearer one counts.",
    )
    for protocol in known:
        title = f"Protocol {protocol} ({report.DIRECTIONS[protocol]})"
        page.add(_picture(title, figures.curves(results, protocol)))
    page.add(*(t.html() for t in report.distance_tables(results)))


def _title(modality: str, example: Example) -> str:
    what = example.sequence.category or f"object {example.label}"
    return f"{modality}: {what}, {example.sequence.name}"


def _picture(title: str, png: bytes) -> str:
    data = b64encode(png).decode("ascii")
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<img alt="{escape(title)}" src="data:image/png;base64,{data}"></figure>'
    )


def _key() -> str:
    return " &nbsp; ".join(
        f'<span class=key style="background:{colour}"></span>{name}'
        for name, colour in (("truth", figures.TRUTH), ("result", figures.RESULT))
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
