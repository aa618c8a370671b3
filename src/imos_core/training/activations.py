"""Measure how far activations reach: ``python -m imos_core.training.activations WEIGHTS FOLDER``.

Convolutions compute in eight bits (`imos_core.model.quantised`) between the smallest and the
largest input that they get while a network follows objects of a folder of sequences, and of
synthetic volumes, which are of more kinds (and some of them in colour).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from imos_core.errors import FileError, ImosError, PropagationError
from imos_core.evaluation.methods import ImosMethod
from imos_core.evaluation.protocols import TrueSequence, tasks_of
from imos_core.model.fused import native
from imos_core.model.prepared import prepared
from imos_core.model.quantised import QuantisedConv2d
from imos_core.synthetic import KINDS, synthetic_volume
from imos_core.training.material import licensed_sequences
from imos_core.weights import ModelInfo, load_model, save_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from imos_core.model import IMOS

_K = TypeVar("_K")

_SLICES = 8
"""Slices that are walked to both sides of the prompt."""
_SHAPE, _CUBES = (24, 144, 144), (1.0, 1.0, 1.0)
"""Of synthetic volumes and their voxels."""


class Activations(TorchDispatchMode):
    """Note the smallest and the largest input of convolutions that eight bits suit."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._by_weight: dict[int, tuple[float, float]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Look at what a convolution is given, then do as without."""
        if func is torch.ops.mkldnn._convolution_pointwise.default:
            self._note(args[0], args[1])
        elif func is torch.ops.mkldnn._convolution_pointwise_.binary:
            self._note(args[1], args[2])
        return func(*args, **(kwargs or {}))

    def named(self, network: IMOS) -> dict[str, tuple[float, float]]:
        """What was noted since the last time, by the names of a network's modules."""
        noted, self._by_weight = self._by_weight, {}
        return {
            name: noted[module.weight.data_ptr()]
            for name, module in network.named_modules()
            if QuantisedConv2d.can_replace(module) and module.weight.data_ptr() in noted
        }

    def _note(self, x: Tensor, weight: Tensor) -> None:
        low, high = (float(v) for v in torch.aminmax(x))
        _widen(self._by_weight, weight.data_ptr(), (low, high))


def _widen(reach: dict[_K, tuple[float, float]], key: _K, extent: tuple[float, float]) -> None:
    """Let what is noted under a key reach as far as an extent, too."""
    low, high = reach.get(key, extent)
    reach[key] = min(low, extent[0]), max(high, extent[1])


def measure(
    model: IMOS, sequences: Sequence[TrueSequence], max_objects: int
) -> dict[str, tuple[float, float]]:
    """Follow objects of sequences, and note how far the inputs of convolutions reach.

    Parameters
    ----------
    model : IMOS
        Network, on a processor.
    sequences : sequence of TrueSequence
        Volumes and videos with their truth; the prompt is the largest slice of each object.
    max_objects : int
        Most objects of each.

    Returns
    -------
    dict
        Smallest and largest input, by the names of the modules.

    Raises
    ------
    PropagationError
        If oneDNN does not compute the convolutions here.
    """
    if not native(torch.float32):
        raise PropagationError("Activations are measured where oneDNN computes: on x86 processors.")
    method = ImosMethod(model, precision="float32")
    reach: dict[str, tuple[float, float]] = {}
    for sequence in tqdm(sequences, unit=" sequences"):
        grey = model.config.channels(sequence.image.ndim == 4) == 1
        network = prepared(model, torch.float32, grey=grey)
        for task in tasks_of(sequence, "middle", max_objects):
            near = replace(
                task,
                start=max(task.start, task.prompt - _SLICES),
                stop=min(task.stop, task.prompt + _SLICES + 1),
            )
            with Activations() as seen:
                method(near)
            for name, extent in seen.named(network).items():
                _widen(reach, name, extent)
    return reach


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write a weights file that knows; exit with 2 if something does not serve."""
    parser = argparse.ArgumentParser(
        prog="python -m imos_core.training.activations",
        description="Write a weights file again, with how far the inputs of its convolutions "
        "reach, so that they can compute in eight bits.",
    )
    parser.add_argument("weights", type=Path, help=".safetensors file")
    parser.add_argument("sequences", type=Path, help="folder of <modality>/<name>.npz")
    parser.add_argument("-o", "--output", type=Path, help="weights file (the same one)")
    parser.add_argument("--max-objects", type=int, default=2, help="of each sequence")
    parser.add_argument("--licences", nargs="*", default=["open"], help="classes that may be used")
    options = parser.parse_args(arguments)
    try:
        _main(options)
    except ImosError as error:
        sys.stderr.write(f"activations: {error}\n")
        return 2
    return 0


def _main(options: argparse.Namespace) -> None:
    output = options.output or options.weights
    if options.weights.suffix != ".safetensors" or output.suffix != ".safetensors":
        raise FileError("Activations are kept in .safetensors files: give one of ours.")
    if not output.absolute().parent.is_dir():
        raise FileError(f"{output} cannot be written: give a file in a folder that exists.")
    model = load_model(options.weights, device="cpu")
    sequences = licensed_sequences(options.sequences, options.licences)
    sequences += [
        TrueSequence(f"{kind}_{seed}", "synthetic", *synthetic_volume(kind, _SHAPE, seed), _CUBES)
        for kind in KINDS
        for seed in range(4)
    ]
    model.activations = {
        name: (round(low, 4), round(high, 4))
        for name, (low, high) in measure(model, sequences, options.max_objects).items()
    }
    save_weights(model, output, ModelInfo("", "", "", options.weights).metadata)


if __name__ == "__main__":
    sys.exit(main())
