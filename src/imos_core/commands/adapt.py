"""What `imos adapt` does: painted slices in, an adapter file and one sentence out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.adapter_headers import refuse_to_replace
from imos_core.commands.output import progress_bar, say
from imos_core.errors import FileError
from imos_core.files.propagate import FileJob, contrast_of, keep_inputs, read_inputs, told_spacing
from imos_core.io import check_folder

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from imos_core.adaptation.tune import AdaptProgress


def adapt(options: argparse.Namespace) -> None:
    """Tune a model to an image, from the painted slices of a label file."""
    import imos_core

    _check_output(options.output)
    keep_inputs([options.output], (options.image, options.labels_file))
    job = FileJob(
        image=options.image,
        painted=options.labels_file,
        output=options.output,
        level=options.level,
        time=options.time,
        channels=options.channels,
        axis=options.axis,
        anchors=options.anchors,
        spacing=options.spacing,
        options={"contrast": options.contrast},
    )
    image, _, prompts, like = read_inputs(job)
    limits = {**job.options, **contrast_of(job)}
    with progress_bar(round(options.seconds), "s", quiet=options.quiet) as bar:

        def show(progress: AdaptProgress) -> None:
            if progress.stage == "check":
                bar.set_description_str("checking", refresh=False)
            else:
                bar.set_description_str("tuning", refresh=False)
                bar.set_postfix_str(f"step {progress.step} loss {progress.loss:.3f}", refresh=False)
            bar.update(min(int(progress.elapsed), round(progress.seconds)) - bar.n)

        result = imos_core.adapt(
            image.array,
            prompts,
            axis=options.axis,
            labels=options.labels,
            model=options.model,
            device=options.device,
            **limits,
            spacing=told_spacing(job, like),
            channels_last=image.channels_last,
            seconds=options.seconds,
            seed=options.seed,
            progress=show,
        )
    result.save(options.output)
    say(result.message)


def _check_output(path: Path) -> None:
    """Check, before any work is done, that the adapter can be written."""
    if path.suffix != ".safetensors":
        raise FileError(f"{path} is no adapter's name: end it with .safetensors.")
    check_folder(path)
    if path.is_dir():
        raise FileError(f"{path} is a folder: choose another name.")
    refuse_to_replace(path)
