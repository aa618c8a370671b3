"""Lists of jobs in CSV files: one propagation a row."""

from __future__ import annotations

import csv
import shlex
from argparse import ArgumentTypeError
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imos_core.errors import FileError, PromptError
from imos_core.file_identity import identity
from imos_core.files.columns import COLUMNS, MEANT, NEEDED
from imos_core.files.propagate import FileJob
from imos_core.files.series import series_of
from imos_core.formats.images import is_slice_name

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from imos_core.files.series import FileSeries


_FILES = ("image", "painted", "output", "confidence")


def read_jobs(
    path: str | os.PathLike[str], options: Mapping[str, Any] | None = None
) -> list[FileJob | FileSeries]:
    """Read a list of jobs.

    Parameters
    ----------
    path : str or path
        CSV file with a row of names: ``image``, ``labels`` and ``output``, and any of the other
        arguments of ``imos propagate``; ``ids`` are the labels to propagate, ``time`` is a time
        point, ``series`` is ``yes`` or ``no``. Empty cells are defaults. Files are looked for from
        the folder of the list.
    options : mapping, optional
        Keywords of `imos_core.propagate` for rows that do not say otherwise.

    Raises
    ------
    FileError
        If it cannot be read.
    PromptError
        If a row cannot be understood, or two rows write the same file.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            # spreadsheets leave commas behind
            rows = [(reader.line_num, row) for row in reader if not _is_empty(row)]
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist: check the name.") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not in UTF-8: save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise FileError(f"{path} cannot be read: give a CSV file of jobs.") from error
    if not rows:
        raise PromptError(f"{path} holds no jobs: write one a row, under a row of names.")
    for line, row in rows:
        if None in row:
            raise PromptError(
                f"Line {line} of {path} has more cells than there are names: put quotes around "
                'lists, as in "1,2,5".'
            )
    twice = {name for name in reader.fieldnames if name and reader.fieldnames.count(name) > 1}
    if twice:
        raise PromptError(
            f"{path} has two columns {min(twice)!r}, of which one would be ignored: keep one of "
            "them."
        )
    unknown = sorted({str(name) for _, row in rows for name in row} - set(COLUMNS))
    if len(unknown) == 1 and ";" in unknown[0]:
        raise PromptError(f"{path} has semicolons between its cells: save it with commas.")
    if unknown:
        raise PromptError(f"{path} has a column {unknown[0]!r}: choose from {', '.join(COLUMNS)}.")
    jobs = {line: _job(path, line, row, options or {}) for line, row in rows}
    _keep_apart(path, jobs)
    return list(jobs.values())


def _is_empty(row: Mapping[str, Any]) -> bool:
    """Whether a row is nothing but commas and blanks."""
    # what is beyond the names is a list
    cells = [c for v in row.values() for c in (v if isinstance(v, list) else [v])]
    return not any(cell and cell.strip() for cell in cells)


def _keep_apart(path: Path, jobs: Mapping[int, FileJob | FileSeries]) -> None:
    """Refuse jobs that write what another one writes or reads: nobody knows which comes first."""
    of = cache(identity)  # many lie in the same folders
    readers: dict[tuple[object, ...], set[int]] = {}
    folders: dict[tuple[object, ...], set[int]] = {}
    for number, job in jobs.items():
        for given in job.inputs():
            folders.setdefault(of(given), set()).add(number)
            # a folder that holds it would be replaced as a whole
            for holder in (given, *given.resolve().parents):
                readers.setdefault(of(holder), set()).add(number)
    taken: dict[tuple[object, ...], tuple[int, Path]] = {}
    for number, job in jobs.items():
        for output in job.outputs():
            place = of(output)
            if place in taken:
                raise PromptError(
                    f"Lines {taken[place][0]} and {number} of {path} both write {output}: "
                    "give each job an output of its own."
                )
            taken[place] = number, output
            others = readers.get(place, set()) - {number}
            if is_slice_name(output):  # of a folder of images
                others |= folders.get(of(output.resolve().parent), set()) - {number}
            if others:
                raise PromptError(
                    f"Line {number} of {path} writes {output}, which line {min(others)} reads: "
                    "choose another name, or make two lists, one after the other."
                )
    for number, output in taken.values():
        # that, too, would be replaced as a whole
        for other, around in (taken[p] for p in map(of, output.resolve().parents) if p in taken):
            raise PromptError(
                f"Line {number} of {path} writes {output}, which is inside {around}, what line "
                f"{other} writes: choose another folder."
            )


def _job(
    path: Path, line: int, row: Mapping[str, str | None], options: Mapping[str, Any]
) -> FileJob | FileSeries:
    cells = {name: text.strip() for name, text in row.items() if text and text.strip()}
    for name in NEEDED:
        if name not in cells:
            raise PromptError(f"Line {line} of {path} has no {name}: every job needs one.")
    fields: dict[str, Any] = {}
    more = dict(options)
    for name, text in cells.items():
        target, read = COLUMNS[name]
        try:
            value = read(text)
        except (ValueError, ArgumentTypeError) as error:
            raise PromptError(
                f"Line {line} of {path}: {shlex.quote(text)} is no {name}: give {MEANT[read]}."
            ) from error
        if name in ("model", "adapter"):
            value = _network_file(path.absolute().parent / value, value)
        if target is None:
            more["memory_budget" if name == "memory" else name] = value
        else:
            fields[target] = path.absolute().parent / value if target in _FILES else value
    series = more.pop("series", False)
    job = FileJob(**fields, options=more)
    try:
        return series_of(job, fields.get("time")) if series else job
    except PromptError as error:
        raise PromptError(f"Line {line} of {path}: {error}") from None


def _network_file(beside: Path, name: str) -> str:
    """A model or adapter: beside the list, if it is there; else as it is named, as models are."""
    return str(beside) if beside.is_file() else name
