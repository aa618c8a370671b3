"""Arguments of `imos train`."""

from __future__ import annotations

import argparse

from imos_core.arguments import path, positive

_PHASES = """\
The four phases of the paper, each from the weights of the one before:
  imos train --example phases    (writes their files; name your folders in them)
  imos train phases/1-static.toml
  imos train phases/2-long.toml --resume runs/1-static/weights.safetensors
  imos train phases/3-short.toml --resume runs/2-long/weights.safetensors
  imos train phases/4-adapters.toml --resume runs/3-short/weights.safetensors
Phase 4 alone tunes the embedded model: --resume imos-compact
A phase that was cut off goes on from its own checkpoint: --resume runs/2-long/checkpoint.pt
"""


def add_train(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``imos train``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _PHASES
    parser.add_argument(
        "config", metavar="CONFIG.toml", nargs="?", type=path, help="file of a phase"
    )
    parser.add_argument(
        "--example", metavar="DIR", type=path, help="write the files of the paper's phases there"
    )
    parser.add_argument(
        "--resume", metavar="W", help="name of a model, weights or checkpoint to go on with"
    )
    parser.add_argument("--device", metavar="D", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--minutes", metavar="N", type=positive, help="length of the phase")
    parser.add_argument("--output", metavar="DIR", help="folder for weights, checkpoint and log")
