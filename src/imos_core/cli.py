"""The command `imos`: runs what was asked for; one line for every error, exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn

from imos_core.arguments import joined
from imos_core.commands.arguments import (
    add_adapt,
    add_batch,
    add_demo,
    add_evaluate,
    add_prepare,
    add_propagate,
    add_rerun,
    add_weights,
)
from imos_core.commands.output import say
from imos_core.commands.train_arguments import add_train
from imos_core.errors import ImosError
from imos_core.own_warnings import told

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOMES = {
    "adapt": "imos_core.commands.adapt",
    "batch": "imos_core.commands.batch",
    "demo": "imos_core.commands.demo",
    "evaluate": "imos_core.commands.evaluate",
    "prepare": "imos_core.commands.prepare",
    "propagate": "imos_core.commands.propagate",
    "rerun": "imos_core.commands.rerun",
    "train": "imos_core.commands.train",
    "weights": "imos_core.commands.weights",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        0: done. 2: the input does not serve, or the output cannot be written, which one line on
        stderr says. 130: interrupted.
    """
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        # names may hold letters that a file or pipe has not, as on Windows
        sys.stdout.reconfigure(errors="backslashreplace")
    code = _run(argv)
    try:
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_stdout()  # whoever read our output has seen enough
    except OSError as error:
        _let_go_of_stdout()
        if not code:  # else it was said
            from imos_core.whole_files import reason

            _complain(f"imos: stdout cannot be written: {reason(error)}.")
            return 2
    return code


def _run(argv: Sequence[str] | None) -> int:
    arguments = joined(sys.argv[1:] if argv is None else argv)
    name = "imos"
    try:
        options = _parser().parse_args(arguments)
        name = f"imos {options.command}"
        # imported only now, so that --help is quick
        run = getattr(import_module(_HOMES[options.command]), options.command)
        with told(lambda message: _complain(f"{name}: {message}")):
            run(options)
    except SystemExit as stop:  # --help, --version
        return int(stop.code or 0)
    except _UsageError as error:
        _complain(str(error))
        return 2
    except ImosError as error:
        _complain(f"{name}: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt as stop:
        _complain(f"{name}: {str(stop) or 'interrupted; nothing was written.'}")
        return 130
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    return 0


def _complain(line: str) -> None:
    """Say what is wrong, if there is anybody to hear it."""
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"{line}\n")


def _let_go_of_stdout() -> None:
    """Throw away what was not written: Python would try once more at its end, and complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _UsageError(ImosError):
    """The arguments do not fit the command."""


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line, which names the command that they are about."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # what a command does not know, argparse leaves to the parser of all commands
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse takes it for said whatever the system answers, as on a full disk
        if file is sys.stdout:
            say(message.removesuffix("\n"))
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{self.prog}: {message} (see {self.prog} --help).")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="imos",
        description="Paint objects in one slice; they are carried through the volume or video.",
    )
    parser.add_argument("--version", action="version", version=f"imos {_version()}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    add_demo(commands.add_parser("demo", help="try the embedded model on an embedded sample"))
    add_propagate(commands.add_parser("propagate", help="carry painted slices through an image"))
    add_rerun(commands.add_parser("rerun", help="make labels that napari saved anew"))
    add_batch(commands.add_parser("batch", help="propagate through many images, in parallel"))
    add_adapt(commands.add_parser("adapt", help="tune the model to an image, from painted slices"))
    add_evaluate(commands.add_parser("evaluate", help="score labels, or a model on a data set"))
    add_prepare(commands.add_parser("prepare", help="turn a public data set into sequences"))
    add_weights(commands.add_parser("weights", help="list, describe, fetch or convert models"))
    add_train(commands.add_parser("train", help="train a model"))
    return parser


def _version() -> str:
    try:
        return version("napari-imos")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
