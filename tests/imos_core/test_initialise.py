"""Initial weights: folding changes nothing XFeat computes, growing nothing that was learned."""

import pytest
import torch
from torch import nn

from imos_core.config import PRESETS
from imos_core.errors import WeightsError
from imos_core.model.descriptors import DenseDescriptors
from imos_core.training.initialise import fold_backbone, initialise


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
    grown = initialise(xfeat, old, seed=1).state_dict()
    kept = grown["decoder.up_8_4.skip_conv.weight"]
    assert torch.equal(kept[:, :32], old["decoder.up_8_4.skip_conv.weight"])
    assert not kept[:, 32:].any()
    name = "decoder.pred.weight"
    assert torch.equal(grown[name], old[name])
    assert set(grown) == set(full.state_dict())
    assert full.config == PRESETS["imos-compact"]


def test_other_files_are_refused():
    with pytest.raises(WeightsError, match="no state dict of XFeat"):
        fold_backbone({"weight": torch.zeros(1)})
