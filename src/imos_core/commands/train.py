"""What `imos train` does: one phase of training, or the files of the paper's phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imos_core.commands.output import say
from imos_core.errors import FileError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def train(options: argparse.Namespace) -> None:
    """Train one phase, or write the phases of the paper."""
    if (options.config is None) == (options.example is None):
        raise FileError("Give either the CONFIG.toml of a phase, or --example DIR.")
    if options.example is not None:
        from imos_core.training.examples import write_examples

        files = write_examples(options.example)
        say(
            f"wrote {', '.join(f.name for f in files)} to {options.example}: name your folders in "
            "them (static, sequences, validation)"
        )
        return
    from imos_core.training.run import main
    from imos_core.weights import weights_file

    _check_file(options.config, "the TOML file of a phase")
    if options.resume is not None:
        _check_file(weights_file(options.resume), "weights or a checkpoint")
    main(
        str(options.config),
        resume=options.resume,
        device=options.device,
        minutes=options.minutes,
        output=options.output,
    )


def _check_file(path: Path, what: str) -> None:
    if path.is_dir():
        raise FileError(f"{path} is a folder: give {what}.")
    if not path.is_file():
        raise FileError(f"{path} does not exist: check the name.")
