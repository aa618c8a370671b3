"""What `imos evaluate` does: two label files, or models and baselines on a folder of sequences."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.commands.output import progress_bar, say
from imos_core.errors import FileError, PromptError
from imos_core.label_ids import ids_on
from imos_core.whole_numbers import axis_of

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    import numpy.typing as npt

    from imos_core.evaluation.annotate import Effort
    from imos_core.evaluation.protocols import Protocol
    from imos_core.evaluation.scoring import Method
    from imos_core.evaluation.surfaces import SurfaceMetrics
    from imos_core.formats.volume import Volume


_WITH_DATA = (
    "protocol", "by_hand", "ends", "adapter", "max_objects", "baseline", "modalities", "tolerance",
    "html", "csv", "precision", "model", "device",
)  # fmt: skip
"""Options that mean nothing with two files."""
_UNLESS_SAID = {"model": ["imos-compact"], "device": "auto", "adapter": [], "modalities": []}
"""What some of them are with a folder of sequences, if nothing else is said."""
_WITH_FILES = ("axis", "time", "anchors", "spacing")
"""Options that mean nothing with a folder of sequences, which says all that."""
_FEW = 10
"""Labels that are named in a line."""


def evaluate(options: argparse.Namespace) -> None:
    """Score one label file against another, or models on a folder of sequences."""
    if options.data is not None:
        if options.prediction is not None:
            raise PromptError("Give either two label files or --data, not both.")
        if options.json and options.csv:
            raise PromptError("Give --json or --csv, not both.")
        for name in _WITH_FILES:
            if getattr(options, name) is not None:
                raise PromptError(f"--{name} goes with two label files, not with --data DIR.")
        for name, value in _UNLESS_SAID.items():
            if getattr(options, name) is None:
                setattr(options, name, value)
        _evaluate_data(options)
        return
    if options.truth is None:
        raise PromptError("Give two label files, PREDICTION and TRUTH, or --data DIR.")
    for name in _WITH_DATA:
        if getattr(options, name) not in (None, False):  # no baselines are said, too
            option = name.replace("_", "-")
            raise PromptError(f"--{option} goes with --data DIR, not with two label files.")
    from imos_core.evaluation.volumes import as_json, as_table, compare
    from imos_core.formats.affines import check_affines
    from imos_core.formats.frame_names import check_numbers

    prediction, truth = _read_both(options)
    check_affines(options.truth, truth, options.prediction, prediction)
    check_numbers(options.truth, truth, options.prediction, prediction)
    told = truth.spacing or prediction.spacing
    # time is no length: without a person's word for it, films have no distances
    spacing = options.spacing or (None if truth.film or prediction.film else told)
    axis = options.axis or 0
    a, b = (_from_axis(v.array, axis) for v in (prediction, truth))
    if spacing is not None:
        spacing = (spacing[axis], *np.delete(spacing, axis))
    scores = compare(a, b, skip=options.anchors or [], spacing=spacing)
    say(as_json(scores) if options.json else as_table(scores))
    _say_unscored(a, b, {score.label for score in scores}, aside=options.json)


def _from_axis(array: Any, axis: int) -> npt.NDArray[Any]:
    """Put the walked axis first; a view."""
    values = np.asarray(array)
    if values.ndim != 3:
        raise PromptError(f"A volume has three axes, but this has shape {values.shape}.")
    return np.moveaxis(values, axis_of(axis), 0)


def _say_unscored(
    prediction: npt.NDArray[np.integer],
    truth: npt.NDArray[np.integer],
    scored: set[int],
    *,
    aside: bool,
) -> None:
    """Name the labels without a score; `aside` where a program reads the scores."""
    found, true = (set(ids_on(labels)) for labels in (prediction, truth))
    reasons = {
        "background": {label for label in found | true if label < 0},
        "not in the truth": {label for label in found - true if label > 0},
        "only on slices that do not count": {label for label in true - scored if label > 0},
    }
    for reason, ids in reasons.items():
        if not ids:
            continue
        names = ", ".join(map(str, sorted(ids)[:_FEW])) + (", ..." if len(ids) > _FEW else "")
        line = f"not scored, as they are {reason}: {names}"
        if aside:
            sys.stderr.write(f"imos evaluate: {line}\n")
        else:
            say(line)


def _read_both(options: argparse.Namespace) -> tuple[Volume, Volume]:
    """Read both files; one of a single volume may go with one of several time points."""
    from imos_core.formats.volume import SingleVolumeError
    from imos_core.io import read_labels

    try:
        prediction = read_labels(options.prediction, options.time, single=False)
    except SingleVolumeError:
        # then the truth has to have that time point
        truth = read_labels(options.truth, options.time, single=False)
        return read_labels(options.prediction), truth
    return prediction, read_labels(options.truth, options.time)


def _evaluate_data(options: argparse.Namespace) -> None:
    """Score models and baselines on a folder of sequences."""
    if options.protocol == "annotate":
        if options.by_hand:
            raise PromptError("--by-hand is for the other protocols: annotators paint exactly.")
        if options.precision:
            raise PromptError("--precision is for the other protocols: annotators use auto.")
        if options.ends:
            raise PromptError("--ends is for the other protocols: annotators keep to the object.")
        _evaluate_effort(options)
        return
    from imos_core.evaluation import report
    from imos_core.evaluation.gallery import Gallery
    from imos_core.evaluation.protocols import names_in
    from imos_core.evaluation.scoring import evaluate_folder
    from imos_core.evaluation.tables import markdown

    gallery = None
    if options.html is not None:
        _check_report(options.html)
        gallery = Gallery()
    surfaces = _surfaces(options)
    models = _models(options)
    methods = {**models, **_baselines(options)}
    results = []
    with progress_bar(None, "result", quiet=options.quiet) as bar:
        for result in evaluate_folder(
            options.data,
            methods,
            _protocols(options),
            options.max_objects,
            options.modalities,
            by_hand=options.by_hand,
            surfaces=surfaces,
            watch=gallery,
        ):
            results.append(result)
            bar.update()
    if not results:
        raise FileError(f"No object in {options.data} is in two slices: there is nothing to score.")
    scored = {(r.modality, r.sequence) for r in results}
    left = [
        f"{m}/{n}" for m, n in names_in(options.data, options.modalities) if (m, n) not in scored
    ]
    if left:
        names = ", ".join(left[:_FEW]) + (", ..." if len(left) > _FEW else "")
        sys.stderr.write(f"imos evaluate: not scored, as no object is in two slices: {names}\n")
    if gallery is not None:
        from imos_core.evaluation.html import html_report
        from imos_core.whole_files import swapped_in

        page = html_report(results, gallery, list(models), data=options.data.name)
        with swapped_in(options.html) as partial:
            partial.write_text(page, encoding="utf-8")
    if options.json or options.csv:
        say(report.to_json(results) if options.json else report.to_csv(results).rstrip())
        return
    say(markdown(report.tables(results)))
    if gallery is not None:
        say(f"\nwrote {options.html}")


def _protocols(options: argparse.Namespace) -> tuple[Protocol, ...]:
    from imos_core.evaluation.protocols import PROTOCOLS

    # a report has the paper's figures, one of which compares directions
    if options.protocol == "directions" or (options.protocol is None and options.html is not None):
        return ("first", "last", "middle")
    return PROTOCOLS if options.protocol is None else (options.protocol,)


def _models(options: argparse.Namespace) -> dict[str, Method]:
    import imos_core
    from imos_core.evaluation.methods import ImosMethod, titles

    adapters = [f" + {title}" for title in titles(options.adapter)]
    found: dict[str, Method] = {}
    for title, name in zip(titles(options.model), options.model, strict=True):
        for more, adapter in zip(["", *adapters], [None, *options.adapter], strict=True):
            network = imos_core.load_model(name, adapter=adapter, device=options.device)
            how = {"device": options.device, "precision": options.precision or "auto"}
            found[title + more] = ImosMethod(network, **how)
            if options.ends:
                said = ImosMethod(network, ends=True, **how)
                found[f"{title}{more}, ends said"] = said
    return found


def _baselines(options: argparse.Namespace) -> dict[str, Method]:
    from imos_core.evaluation.baselines import BASELINES

    found: dict[str, Method] = {}
    for name in ["copy", "flow"] if options.baseline is None else options.baseline:
        title, make = BASELINES[name]
        try:
            found[title] = make()
        except FileError as error:
            if options.baseline is not None:
                raise
            sys.stderr.write(f"imos evaluate: without the {name} baseline. {error}\n")
    return found


def _surfaces(options: argparse.Namespace) -> SurfaceMetrics | None:
    from imos_core.evaluation.surfaces import SurfaceMetrics

    try:
        return SurfaceMetrics(options.tolerance)
    except FileError as error:
        if options.tolerance is not None:
            raise
        sys.stderr.write(f"imos evaluate: without surface scores. {error}\n")
        return None


def _check_report(path: Path) -> None:
    """Refuse a report that could not be drawn or written, before anything takes long."""
    from imos_core.evaluation.figures import check_matplotlib

    check_matplotlib()
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise FileError(f"{path} cannot be written: give a file in a folder that exists.")


def _evaluate_effort(options: argparse.Namespace) -> None:
    """Count the slices that a person must paint."""
    from imos_core import load_model
    from imos_core.evaluation.annotate import (
        FEWEST,
        annotate,
        as_json,
        effort_table,
        tasks_to_annotate,
    )
    from imos_core.evaluation.protocols import said_of

    if len(options.model) != 1 or options.baseline is not None or options.html is not None:
        raise PromptError("The protocol annotate takes one --model, no --baseline and no --html.")
    if len(options.adapter) > 1:
        raise PromptError("The protocol annotate takes one --adapter at most.")
    if options.csv:
        raise PromptError("The protocol annotate has no CSV: print --json.")
    adapter = options.adapter[0] if options.adapter else None
    model = load_model(options.model[0], adapter=adapter, device=options.device)
    tasks = tasks_to_annotate(options.data, options.max_objects, options.modalities)
    efforts: list[Effort] = []
    with progress_bar(None, "object", quiet=options.quiet) as bar:
        for task in tasks:
            with said_of(task.sequence):
                efforts += annotate(task, model)
            bar.update()
    if not efforts:
        raise FileError(
            f"No object in {options.data} is in {FEWEST} slices: there is nothing to score."
        )
    say(as_json(efforts) if options.json else effort_table(efforts))
