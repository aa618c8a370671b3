"""What each subcommand of `imos` does; everything slow to import is imported where it is used."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from imos_core.errors import FileError, PromptError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from tqdm import tqdm

    from imos_core.propagation import SegmentedSlice
    from imos_core.weights import ModelInfo


def demo(options: argparse.Namespace) -> None:
    """Propagate the prompt of the sample, score the result and draw it."""
    import imos_core
    from imos_core.evaluation.volumes import as_table, compare
    from imos_core.io import Volume, reason, write_labels
    from imos_core.overview import contact_sheet
    from imos_core.review import anchor_distance, expected_jaccard
    from imos_core.samples import load_sample

    model = imos_core.load_model(options.model, device=options.device)
    folder: Path = options.out
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The folder {folder} cannot be made ({reason(error)}): choose another."
        ) from error
    sample = load_sample()
    k = sample.prompt_slice
    result = np.zeros_like(sample.labels)
    certain = np.full(len(result), np.nan)
    slices = imos_core.propagate(
        sample.image, {k: sample.labels[k]}, model=model, spacing=sample.spacing
    )
    started = time.perf_counter()
    for item in with_progress(slices, len(result), quiet=options.quiet):
        result[item.index] = item.labels
        away = anchor_distance(item.index, [k])
        certain[item.index] = expected_jaccard(item.confidence, item.labels, away)
    rate = (len(result) - 1) / (time.perf_counter() - started)
    scores = compare(result, sample.labels, skip=[k])
    sheet = contact_sheet(
        sample.image,
        result,
        [k],
        confidence=certain,
        truth=sample.labels,
        pixel=sample.spacing[1:],
        title=sample.description,
        captions={s.label: f"{s.label}   J {s.j:.3f}   F {s.f:.3f}" for s in scores},
    )
    write_labels(folder / "labels.tif", result, Volume(result, sample.spacing, unit="millimeter"))
    _save_picture(sheet, folder / "overview.png")
    say(
        f"{sample.description} Prompt: slice {k} of {len(result)}.\n\n{as_table(scores)}\n\n"
        f"{rate:.1f} slices/s\n"
        f"wrote {folder / 'labels.tif'} and {folder / 'overview.png'}"
    )


def weights(options: argparse.Namespace) -> None:
    """List the models, or describe one."""
    from imos_core.weights import list_models

    if options.action == "list":
        lines = [f"{'name':<16} {'parameters':>10} {'size':>8}  {'licence':<24} description"]
        for info in list_models():
            there = info.available
            count = f"{info.parameters / 1e6:.2f} M" if there else "-"
            size = f"{info.size_bytes / 1e6:.1f} MB" if there else "missing"
            lines.append(
                f"{info.name:<16} {count:>10} {size:>8}  {info.licence:<24} {info.description}"
            )
        say("\n".join(lines))
        return
    say("\n".join(f"{name:<12} {value}" for name, value in _facts(options.model).items()))


def from_axis(array: Any, axis: int) -> npt.NDArray[Any]:
    """Put the walked axis first; a view."""
    values = np.asarray(array)
    if values.ndim != 3:
        raise PromptError(f"A volume has three axes, but this has shape {values.shape}.")
    if not -3 <= axis < 3:
        raise PromptError(f"Axis {axis} is out of range: give 0, 1 or 2.")
    return np.moveaxis(values, axis, 0)


def with_progress(
    slices: Iterator[SegmentedSlice], total: int, *, done: int = 0, quiet: bool
) -> Iterator[SegmentedSlice]:
    """Show progress over slices, of which some may be done already."""
    with progress_bar(total, "slice", done=done, quiet=quiet) as bar:
        for item in slices:
            yield item
            bar.update()


@contextmanager
def progress_bar(
    total: int | None, unit: str, *, done: int = 0, quiet: bool
) -> Iterator[tqdm[Any]]:
    """Progress on stderr; it waits a moment, so that errors that come at once stand alone."""
    from tqdm import tqdm

    quiet = quiet or sys.stderr is None  # it may be closed
    bar = tqdm(total=total, unit=unit, initial=done, file=sys.stderr, disable=quiet, delay=0.5)
    try:
        yield bar
    except BaseException:
        bar.leave = False
        raise
    finally:
        bar.close()


def _facts(model: str) -> dict[str, str]:
    """What is known of a model, by name or file."""
    from imos_core.tensor_files import SHORT, base_of_adapter, is_adapter, read_state
    from imos_core.weights import ModelInfo, fingerprint, list_models, load_model, weights_file

    path = weights_file(model)
    named = [i for i in list_models() if i.path == path]
    info: ModelInfo = named[0] if named else ModelInfo(path.stem, "", "", path)
    state = read_state(info.path)  # says what is wrong with a damaged file
    if is_adapter(info.path):
        return {
            "name": info.name,
            "kind": "adapter",
            "tuned for": base_of_adapter(info.metadata),
            "file": str(info.path),
            "size": f"{info.size_bytes / 1e6:.2f} MB",
            "sha256": info.sha256,
            "parameters": f"{sum(t.numel() for t in state.values()):,}",
            **{k: _one_line(v) for k, v in info.metadata.items() if not k.startswith("base")},
        }
    network = load_model(info.path, device="cpu")
    config = network.config
    facts = {
        "name": info.name,
        "description": info.description,
        "licence": info.licence,
        "file": str(info.path),
        "size": f"{info.size_bytes / 1e6:.2f} MB",
        "sha256": info.sha256,
        "fingerprint": fingerprint(network)[:SHORT],
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
        "adapters": "yes" if config.adapters else "no",
        "dimensions": f"key {config.key_dim}, value {config.value_dim}, hidden {config.hidden_dim}",
        "stride": f"{config.memory_stride} pixels",
        "eight bits": f"{len(network.activations) or 'no'} convolutions",
    }
    if info.path.suffix == ".safetensors":
        for key, value in info.metadata.items():
            if key not in ("config", "activations"):
                facts[key] = _one_line(value)
    return {k: v for k, v in facts.items() if v}


def _one_line(text: str) -> str:
    try:
        return json.dumps(json.loads(text))
    except (ValueError, RecursionError):
        return " ".join(text.split())


def _save_picture(picture: Any, path: Path) -> None:
    from imos_core.io import reason, swapped_in

    try:
        with swapped_in(path) as partial:
            picture.save(partial)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {reason(error)}.") from error


def say(text: str) -> None:
    """Write to stdout, if it is not closed.

    Raises
    ------
    FileError
        If what it leads to is full, or fails.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        from imos_core.io import reason

        raise FileError(f"stdout cannot be written: {reason(error)}.") from error
