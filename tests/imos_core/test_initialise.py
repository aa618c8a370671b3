"""Initial weights: folding changes nothing of what a backbone computes, growing nothing learned."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from imos_core.config import PRESETS
from imos_core.errors import WeightsError
from imos_core.model import Guide
from imos_core.model.context import ImageContext
from imos_core.model.descriptors import DenseDescriptors
from imos_core.training.initialise import fold_backbone, fold_context, initialise


def _unfolded(folded_shapes):
    """A state dict as XFeat's, with random statistics."""
    generator = torch.Generator().manual_seed(3)
    state = {}
    for name, shape in folded_shapes.items():
        block, *rest = name.split(".")
        if block in ("skip", "project"):
            theirs = {"skip": "skip1.1", "project": "block_fusion.2"}[block]
            state[f"{theirs}.{rest[0]}"] = torch.randn(shape, generator=generator) * 0.2
        elif rest[1] == "weight":
            layer = f"{'block_fusion' if block == 'fusion' else block}.{int(rest[0]) // 2}.layer"
            state[f"{layer}.0.weight"] = torch.randn(shape, generator=generator) * 0.1
            state[f"{layer}.1.running_mean"] = torch.randn(shape[0], generator=generator)
            state[f"{layer}.1.running_var"] = torch.rand(shape[0], generator=generator) + 0.5
    return state


@pytest.fixture(scope="module")
def xfeat():
    return _unfolded({k: v.shape for k, v in DenseDescriptors().state_dict().items()})


@pytest.fixture(scope="module")
def lite():
    """A state dict as EfficientNet-Lite0's, with random weights and statistics."""
    generator = torch.Generator().manual_seed(4)
    state = {}
    blocks = -1
    pairs = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    for name, tensor in ImageContext().state_dict().items():
        *place, part = name.split(".")
        if part == "bias":
            continue
        if place == ["stem"]:
            convolution, norm = "_conv_stem", "_bn0"
        else:
            blocks += place[3] == "expand" or blocks < 0
            convolution = f"_blocks.{blocks}._{place[3]}_conv"
            norm = f"_blocks.{blocks}.{pairs[place[3]]}"
        inputs = tensor[0].numel()
        weight = torch.randn(tensor.shape, generator=generator) * (2 / inputs) ** 0.5
        state[f"{convolution}.weight"] = weight
        for statistic in ("running_mean", "bias"):
            state[f"{norm}.{statistic}"] = 0.2 * torch.randn(len(tensor), generator=generator)
        for statistic in ("running_var", "weight"):
            state[f"{norm}.{statistic}"] = torch.rand(len(tensor), generator=generator) + 0.5
    return state


def test_folded_convolutions_do_what_convolution_and_norm_did(xfeat):
    ours = DenseDescriptors()
    ours.load_state_dict(fold_backbone(xfeat))
    layer = "block3.0.layer"
    convolution = nn.Conv2d(24, 64, 3, 2, 1, bias=False)
    convolution.load_state_dict({"weight": xfeat[f"{layer}.0.weight"]})
    norm = nn.BatchNorm2d(64, affine=False).eval()
    norm.running_mean = xfeat[f"{layer}.1.running_mean"]
    norm.running_var = xfeat[f"{layer}.1.running_var"]
    x = torch.randn(2, 24, 16, 16)
    assert torch.allclose(ours.block3[:2](x), torch.relu(norm(convolution(x))), atol=1e-5)


def test_a_grown_network_does_what_it_did(xfeat):
    full = initialise(xfeat)
    old = {k: v for k, v in full.state_dict().items() if "tracking" not in k and "track" not in k}
    old["decoder.up_8_4.skip_conv.weight"] = old["decoder.up_8_4.skip_conv.weight"][:, :32]
    grown = initialise(xfeat, older=old, seed=1).state_dict()
    kept = grown["decoder.up_8_4.skip_conv.weight"]
    assert torch.equal(kept[:, :32], old["decoder.up_8_4.skip_conv.weight"])
    assert not kept[:, 32:].any()
    name = "decoder.pred.weight"
    assert torch.equal(grown[name], old[name])
    assert set(grown) == set(full.state_dict())
    assert full.config == PRESETS["imos-compact"]


def test_folded_context_does_what_convolutions_and_norms_did(lite):
    ours = ImageContext()
    ours.load_state_dict(fold_context(lite))
    block = ours.stages[1][1]  # the third of all: 24 channels, 144 inside, added to its input
    theirs = "_blocks.2"
    x = torch.randn(2, 24, 12, 12)

    def follow(inner, convolution, norm, **options):
        out = F.conv2d(inner, lite[f"{theirs}.{convolution}.weight"], **options)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(out, *(lite[f"{theirs}.{norm}.{n}"] for n in names), eps=1e-3)

    wide = F.relu6(follow(x, "_expand_conv", "_bn0"))
    wide = F.relu6(follow(wide, "_depthwise_conv", "_bn1", padding=1, groups=144))
    expected = x + follow(wide, "_project_conv", "_bn2")
    assert torch.allclose(block(x), expected, atol=1e-4)


def test_context_may_be_added_to_a_network_and_changes_nothing_at_first(xfeat, lite):
    torch.manual_seed(5)
    old = initialise(xfeat)
    for parameter in old.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    grown = initialise(lite=lite, older=old.state_dict(), seed=1)
    assert grown.config == replace(old.config, context=True)
    frame = torch.randn(1, 3, 32, 32)
    mask = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        answers = []
        for model in (old, grown):
            features = model.encode_query(frame)
            hidden = model.initial_hidden(frame, 1)
            value, hidden = model.encode_value(frame, features.f16, hidden, mask)
            guide = Guide(frame, frame, mask, torch.zeros_like(mask), features.f4)
            answers.append(model.decode(features, value, hidden, guide=guide)[0])
    assert torch.allclose(*answers, atol=1e-5)


@pytest.mark.parametrize("fold", [fold_backbone, fold_context])
def test_other_files_are_refused(fold):
    with pytest.raises(WeightsError, match=r"no state dict of (XFeat|EfficientNet-Lite0)"):
        fold({"weight": torch.zeros(1)})
