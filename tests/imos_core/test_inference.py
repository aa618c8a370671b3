"""The network as inference runs it computes what the network says, with less work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, TINY_R50, disc_volume, tiny_model
from torch import nn
from torch.nn import functional as F

from imos_core.config import IMOS_COMPACT
from imos_core.model import IMOS, fused, winograd
from imos_core.model.blocks import FeatureFusion, ResidualBlock
from imos_core.model.flow import _smooth
from imos_core.model.fused import FusedConv2d, NativeConv2d, RectifiedConv2d, native
from imos_core.model.inference import for_inference
from imos_core.model.winograd import WinogradConv2d, by_onednn
from imos_core.propagation import propagate
from imos_core.propagator import Propagator


def shaken(config):
    """A network whose norms do something."""
    torch.manual_seed(3)
    model = IMOS(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return model


def follow(model, objects=2, frames=None):
    torch.manual_seed(5)
    frames = torch.randn(4, 3, 64, 64) if frames is None else frames
    masks = torch.zeros(objects, 64, 64)
    for i in range(objects):
        masks[i, 10 + 20 * i : 25 + 20 * i, 10:40] = 1
    walk = Propagator(model)
    walk.memorize(frames[0], masks)
    return torch.stack([walk.segment(frame) for frame in frames[1:]])


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("config", [TINY, TINY_R50])
def test_folded_norms_change_nothing(config, adapters):
    model = shaken(replace(config, adapters=adapters))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lean = for_inference(model, torch.float32)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in lean.modules())
    torch.testing.assert_close(follow(lean), follow(model), atol=1e-4, rtol=0)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("config", [TINY, replace(TINY, descriptors=True, flow=True), TINY_R50])
def test_grey_frames_need_one_channel(config):
    model = shaken(config)
    lean = for_inference(model, torch.float32, grey=True)
    assert (model.channels, lean.channels) == (3, 1)
    assert model.key_encoder.conv1.weight.shape[1] == 3
    grey = torch.randn(4, 1, 64, 64)
    found, wanted = (
        follow(net, frames=x) for net, x in ((lean, grey), (model, grey.expand(-1, 3, -1, -1)))
    )
    assert not torch.equal(follow(model), wanted)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("colours", "rule", "channels"),
    [(False, "zscore", 1), (True, "zscore", 3), (False, "imagenet", 3)],
)
def test_propagation_shows_grey_windows_once(monkeypatch, colours, rule, channels):
    image, labels = disc_volume()
    if colours:
        image = np.stack([image] * 3, -1)
    seen = set()
    encode = IMOS.encode_query

    def watched(model, frame):
        seen.add(frame.shape[1])
        return encode(model, frame)

    monkeypatch.setattr(IMOS, "encode_query", watched)
    model = tiny_model(replace(TINY, normalisation=rule))
    for window in ("auto", "full"):
        list(
            propagate(
                image,
                {4: labels[4]},
                model=model,
                window=window,
                channels_last=colours,
                device="cpu",
            )
        )
    assert seen == {channels}


@pytest.mark.parametrize("objects", [1, 3])
def test_winograd_changes_nothing(monkeypatch, objects):
    monkeypatch.setattr(winograd, "_MANY_CHANNELS", 8)
    model = shaken(TINY_R50)
    lean = for_inference(model, torch.float32)
    quick = [name for name, m in lean.named_modules() if isinstance(m, WinogradConv2d)]
    assert any(name.startswith("decoder.fuser") for name in quick)
    found, wanted = follow(lean, objects), follow(model, objects)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_weights_are_cast_once():
    lean = for_inference(shaken(TINY), torch.bfloat16)
    layers = nn.Conv2d | nn.Linear | NativeConv2d
    kinds = {m.weight.dtype for m in lean.modules() if isinstance(m, layers)}
    assert kinds == {torch.bfloat16}


@pytest.mark.skipif(not native(torch.float32), reason="no oneDNN here")
def test_no_convolution_asks_who_computes_it():
    lean = for_inference(shaken(TINY), torch.float32)
    assert not [name for name, m in lean.named_modules() if type(m) is nn.Conv2d]


def test_the_image_is_convolved_once_for_all_objects():
    torch.manual_seed(0)
    fusion = FeatureFusion(24, 8, 16, 4)
    image, group = torch.randn(2, 24, 6, 5), torch.randn(6, 8, 6, 5)
    seen = []
    original = F.conv2d

    def counting(x, weight, *args, **kwargs):
        seen.append(len(x))
        return original(x, weight, *args, **kwargs)

    together = fusion(image, group)
    alone = [fusion(image[i // 3 : i // 3 + 1], group[i : i + 1]) for i in range(6)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imos_core.model.blocks.F.conv2d", counting)
        fusion(image, group)
    assert seen.count(2) == 2


@pytest.mark.parametrize("size", [(16, 24), (40, 96)])
def test_smoothing_is_a_gaussian_filter(size):
    torch.manual_seed(0)
    planes = torch.randn(2, 3, *size)
    offsets = torch.arange(9.0) - 4
    kernel = torch.exp(-(offsets**2) / (2 * 2.5**2))
    kernel = (kernel / kernel.sum()).repeat(3, 1, 1, 1)
    wanted = F.conv2d(planes, kernel.transpose(2, 3), padding=(4, 0), groups=3)
    wanted = F.conv2d(wanted, kernel, padding=(0, 4), groups=3)
    torch.testing.assert_close(_smooth(planes, 9, 2.5), wanted)


class TestFused:
    """One pass over memory computes what three did."""

    def convolution(self, inner=6, outer=8, kernel=3, **how):
        torch.manual_seed(1)
        made = nn.Conv2d(inner, outer, kernel, padding=kernel // 2, **how)
        return made.to(memory_format=torch.channels_last)

    @pytest.mark.parametrize("kernel", [1, 3])
    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("bias", [False, True])
    def test_rectifying(self, kernel, stride, bias):
        plain = self.convolution(kernel=kernel, stride=stride, bias=bias)
        fused = FusedConv2d(plain)
        x = torch.randn(3, 6, 9, 10)
        with torch.inference_mode():
            torch.testing.assert_close(fused(x), plain(x))
            torch.testing.assert_close(fused.rectified(x), plain(x).relu())
            torch.testing.assert_close(RectifiedConv2d(plain)(x), plain(x).relu())

    @pytest.mark.parametrize("relu", [False, True])
    def test_adding(self, relu):
        plain = self.convolution()
        x, other = torch.randn(2, 6, 9, 10), torch.randn(2, 8, 9, 10)
        with torch.inference_mode():
            wanted = plain(x) + other
            found = FusedConv2d(plain).onto(x, other, relu=relu)
        torch.testing.assert_close(found, wanted.relu() if relu else wanted)

    @pytest.mark.parametrize("config", [TINY, TINY_R50, IMOS_COMPACT])
    def test_features_that_are_used_twice_stay(self, config):
        """No block overwrites what the stage before it has handed out."""
        model = shaken(config)
        lean = for_inference(model, torch.float32)
        assert any(isinstance(m, FusedConv2d) for m in lean.key_encoder.modules())
        frame = torch.randn(2, 3, 64, 64)
        with torch.inference_mode():
            for found, wanted in zip(
                lean.key_encoder(frame), model.eval().key_encoder(frame), strict=True
            ):
                torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)

    def test_bfloat16_rounds_as_autocast_does(self):
        model = shaken(TINY_R50)
        lean = for_inference(model, torch.bfloat16)
        frame = torch.randn(2, 3, 64, 64)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found, wanted = lean.key_encoder(frame), model.eval().key_encoder(frame)
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == other.dtype == torch.bfloat16
            torch.testing.assert_close(one, other, atol=0.1, rtol=0.05)

    def test_a_block_leaves_its_input_alone_unless_it_owns_it(self):
        block = ResidualBlock(8, 8)
        lone = nn.Sequential(block)
        x = torch.randn(1, 8, 6, 6)
        before = x.clone()
        with torch.inference_mode():
            wanted = block(x)
            block.conv1, block.conv2 = FusedConv2d(block.conv1), FusedConv2d(block.conv2)
            torch.testing.assert_close(lone(x), wanted)
        assert torch.equal(x, before)

    def test_what_it_cannot_do_is_left_as_it_was(self, monkeypatch):
        for odd in (
            nn.Conv2d(4, 4, 3, padding="same"),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            nn.ConvTranspose2d(4, 4, 2),
        ):
            assert not FusedConv2d.serves(odd)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        lean = for_inference(shaken(TINY), torch.float32)
        assert not any(isinstance(m, NativeConv2d) for m in lean.modules())
        assert torch.isfinite(follow(lean)).all()


def test_operators_of_this_torch_are_what_they_were():
    assert native(torch.float32) == torch.backends.mkldnn.is_available()
    if native(torch.float32):
        assert native(torch.bfloat16) == torch.ops.mkldnn._is_mkldnn_bf16_supported()
        assert by_onednn() == (torch.backends.cpu.get_cpu_capability() == "AVX512")


@pytest.mark.parametrize("answer", ["raises", "is another one"])
def test_operators_of_torch_that_are_not_what_they_were_are_not_used(monkeypatch, answer):
    class Other:
        _convolution_pointwise_ = torch.ops.mkldnn._convolution_pointwise_

        @staticmethod
        def _convolution_pointwise(x, *rest):
            if answer == "raises":
                raise TypeError("unexpected argument")
            return torch.zeros(1, 16, 8, 8)

        @staticmethod
        def _is_mkldnn_bf16_supported():
            return True

    fused._is_as_expected.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", Other)
    try:
        assert not native(torch.float32)
        assert not native(torch.bfloat16)
    finally:
        fused._is_as_expected.cache_clear()
