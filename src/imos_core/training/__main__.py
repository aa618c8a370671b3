"""Run one training phase: ``python -m imos_core.training CONFIG.toml``, or under torchrun."""

from __future__ import annotations

import argparse

from imos_core.arguments import positive
from imos_core.training.run import main


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m imos_core.training", description=__doc__)
    parser.add_argument("config", help="TOML file of the phase")
    parser.add_argument("--resume", help="model, weights or checkpoint to start from")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--minutes", type=positive, help="length of the phase")
    parser.add_argument("--output", help="folder for weights, checkpoint and log")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _arguments()
    main(
        arguments.config,
        resume=arguments.resume,
        device=arguments.device,
        minutes=arguments.minutes,
        output=arguments.output,
    )
