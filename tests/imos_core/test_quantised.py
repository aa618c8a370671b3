"""Convolutions in eight bits: what they compute, which ones do, and for whom."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import disc_volume, tiny_model
from torch import nn
from torch.nn import functional as F

from imos_core import device, propagate, propagation
from imos_core.adaptation.tune import with_adapters
from imos_core.device import arithmetic
from imos_core.errors import DeviceError, FileError, PropagationError, WeightsError
from imos_core.evaluation.protocols import TrueSequence
from imos_core.model import quantised
from imos_core.model.fused import FusedConv2d, RectifiedConv2d
from imos_core.model.prepared import prepared
from imos_core.model.quantised import QuantisedConv2d, eight_bits
from imos_core.model.resnet import Bottleneck
from imos_core.training import activations
from imos_core.walking.checkpoint import Checkpoint
from imos_core.weights import load_model, save_weights

pytestmark = pytest.mark.skipif(not eight_bits(), reason="no eight bits on this processor")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def tiny_networks_too():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantised, "_LEAST_CHANNELS", 8)
        yield


def convolution(inner=16, outer=24, kernel=3, stride=1, bias=True):
    made = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=bias)
    return made.to(memory_format=torch.channels_last)


def pictures(*shape):
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def by_hand(plain, x, low, high):
    """The same with weights and input rounded beforehand."""
    step = (high - low) / 255
    levels = (x / step + round(-low / step)).round().clamp(0, 255)
    scales = plain.weight.abs().amax((1, 2, 3), keepdim=True) / eight_bits()
    weight = (plain.weight / scales).round() * scales
    seen = (levels - round(-low / step)) * step
    return F.conv2d(seen.double(), weight.double(), None, plain.stride, plain.padding).float() + (
        0 if plain.bias is None else plain.bias[:, None, None]
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 3, 7]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.sampled_from([(-2.0, 3.0), (0.0, 1.5), (0.3, 4.0), (-1.0, 0.0)]),
)
@torch.inference_mode()
def test_weights_and_input_are_rounded_and_nothing_else(seed, kernel, stride, bias, extent):
    torch.manual_seed(seed)
    plain = convolution(kernel=kernel, stride=stride, bias=bias)
    x = pictures(2, 16, 9, 11)
    low, high = min(extent[0], 0.0), max(extent[1], 1e-6)
    wanted = by_hand(plain, x, low, high)
    found = QuantisedConv2d(FusedConv2d(plain), extent, eight_bits())
    near = {"atol": 1e-4 * float(wanted.abs().max()), "rtol": 1e-4}
    torch.testing.assert_close(found(x), wanted, **near)
    torch.testing.assert_close(found.rectified(x), wanted.relu(), **near)
    torch.testing.assert_close(found.between(x), by_hand(plain, x.relu(), low, high).relu(), **near)
    other = pictures(*wanted.shape)
    for relu in (False, True):
        both = (wanted + other).relu() if relu else wanted + other
        torch.testing.assert_close(found.onto(x, other.clone(), relu=relu), both, **near)
    always = QuantisedConv2d(RectifiedConv2d(plain), extent, eight_bits())
    torch.testing.assert_close(always(x), wanted.relu(), **near)


@torch.inference_mode()
def test_the_same_input_gives_the_same_output_whatever_comes_with_it():
    found = QuantisedConv2d(FusedConv2d(convolution()), (-2.0, 2.0), eight_bits())
    x = pictures(5, 16, 8, 8)
    alone = torch.cat([found(one[None]) for one in x])
    assert torch.equal(found(torch.cat([x, 100 * x]))[:5], alone)


@torch.inference_mode()
def test_eight_bits_are_handed_on():
    torch.manual_seed(0)
    plain = convolution(16, 16), convolution(16, 16)
    x = pictures(2, 16, 8, 8)
    between = plain[0](x).relu()
    top = float(between.max())
    one = QuantisedConv2d(FusedConv2d(plain[0]), (-4.0, 4.0), eight_bits())
    two = QuantisedConv2d(FusedConv2d(plain[1]), (0.0, top), eight_bits())
    apart = two(one.rectified(x))
    one.hand_on(two)
    assert one.rectified(x).dtype == torch.uint8
    assert one(x).dtype == torch.float32, "only what is rectified"
    # what was rounded once is not rounded otherwise, but where it was just between two levels
    torch.testing.assert_close(two(one.rectified(x)), apart, atol=0.02 * top, rtol=0)
    signed = QuantisedConv2d(FusedConv2d(plain[1]), (-1.0, top), eight_bits())
    three = QuantisedConv2d(FusedConv2d(plain[0]), (-4.0, 4.0), eight_bits())
    three.hand_on(signed)
    assert three.rectified(x).dtype == torch.float32


def test_what_this_processor_does_is_tried(monkeypatch):
    asked = []

    def as_expected(most, limit):
        asked.append(most)
        return most <= limit

    for limit, most in ((127, 127), (63, 63), (0, 0)):
        monkeypatch.setattr(
            quantised, "_is_as_expected", lambda m, limit=limit: as_expected(m, limit)
        )
        assert eight_bits.__wrapped__() == most
    assert asked == [127, 127, 63, 127, 63]

    def gone(most):
        raise AttributeError("'_OpNamespace' 'onednn' object has no attribute")

    monkeypatch.setattr(quantised, "_is_as_expected", gone)
    assert eight_bits.__wrapped__() == 0


def test_an_operator_that_overflows_is_found_out(monkeypatch):
    real = quantised.QuantisedConv2d._then

    def overflowing(self, what, x):
        return real(self, what, x).clamp(max=9.0)

    monkeypatch.setattr(quantised.QuantisedConv2d, "_then", overflowing)
    with torch.no_grad():
        assert not quantised._is_as_expected(127)


@pytest.fixture(scope="module")
def measured():
    model = tiny_model()
    image, labels = disc_volume(12)
    sequence = TrueSequence("disc", "toy", image, labels, (1.0, 1.0, 1.0))
    model.activations = activations.measure(model, [sequence], 1)
    return model


def test_what_is_measured_are_inputs_of_convolutions(measured):
    network = prepared(measured, torch.float32, grey=True)
    names = {name for name, _ in network.named_modules()}
    assert measured.activations.keys() <= names
    quantised_ = dict(prepared(measured, torch.int8, grey=True).named_modules())
    assert all(isinstance(quantised_[name], QuantisedConv2d) for name in measured.activations)
    assert "decoder.fuser.block1.conv2" in measured.activations
    for name, (low, high) in measured.activations.items():
        assert low < high, name
    assert measured.activations["decoder.fuser.block1.conv2"][0] == 0, "it was rectified"
    assert measured.activations["decoder.fuser.block1.downsample"][0] < 0, "it was not"


def follow(model, **options):
    image, labels = disc_volume(12)
    options = {"device": "cpu", **options}
    return {item.index: item for item in propagate(image, {6: labels[6]}, model=model, **options)}


def agreement(one, other):
    both = [(one[k].labels > 0, other[k].labels > 0) for k in one]
    return sum((a & b).sum() for a, b in both) / max(sum((a | b).sum() for a, b in both), 1)


def test_masks_are_what_they_were_in_float32(measured):
    whole, found = follow(measured, precision="float32"), follow(measured, precision="int8")
    assert found.keys() == whole.keys()
    assert agreement(found, whole) > 0.95
    far = max(np.abs(found[k].confidence - whole[k].confidence).mean() for k in whole)
    assert 0 < far < 0.05


def test_auto_computes_in_eight_bits_where_it_can(measured, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(device, "_bfloat16_pays", lambda: False)
    found, asked = follow(measured), follow(measured, precision="int8")
    for k, item in asked.items():
        assert np.array_equal(found[k].confidence, item.confidence)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NEON")
    assert arithmetic("auto", CPU, eight_bits=True) == torch.float32
    monkeypatch.setattr(device, "_bfloat16_pays", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert arithmetic("auto", CPU, eight_bits=True) == torch.bfloat16
    assert arithmetic("auto", torch.device("mps"), eight_bits=True) == torch.float32


def test_it_is_for_windows_and_networks_that_were_measured(measured):
    with pytest.raises(DeviceError, match="in windows"):
        follow(measured, precision="int8", window="full")
    with pytest.raises(DeviceError, match="activations were measured"):
        follow(tiny_model(), precision="int8")
    with pytest.raises(DeviceError, match="on a processor"):
        arithmetic("int8", torch.device("cuda"), eight_bits=True)


def test_few_channels_stay_as_they_are_and_no_copy_outlives_what_it_was_made_from(measured):
    model = copy.deepcopy(measured)
    network = prepared(model, torch.int8, grey=True)
    kinds = {name: type(m) for name, m in network.named_modules()}
    assert kinds["decoder.fuser.block1.conv1"] is QuantisedConv2d
    assert kinds["key_encoder.conv1"] is not QuantisedConv2d
    assert prepared(model, torch.int8, grey=True) is network
    model.activations.pop("decoder.fuser.block1.conv1")
    again = dict(prepared(model, torch.int8, grey=True).named_modules())
    assert type(again["decoder.fuser.block1.conv1"]) is not QuantisedConv2d


def test_adapters_stay_as_they_are_and_get_no_eight_bits(measured):
    model = with_adapters(measured)
    assert not model.activations, "it is about to learn"
    model.activations = dict(measured.activations)
    network = prepared(model, torch.int8, grey=True)
    blocks = [m for m in network.key_encoder.modules() if isinstance(m, Bottleneck)]
    beside = [b for b in blocks if b.adapter is not None]
    assert beside
    for block in beside:
        assert not any(isinstance(m, QuantisedConv2d) for m in block.adapter.modules())
        assert isinstance(block.conv1, QuantisedConv2d)
        assert block.conv1.rectified(torch.rand(1, block.conv1.weight.shape[1], 8, 8)).dtype == (
            torch.float32
        )
    assert agreement(follow(model, precision="int8"), follow(model, precision="float32")) > 0.95


def test_what_learns_forgets_how_far_its_activations_reach(measured):
    model = copy.deepcopy(measured)
    assert model.eval().activations
    assert not model.train().activations
    with pytest.raises(DeviceError, match="activations were measured"):
        follow(model.eval(), precision="int8")


@pytest.mark.parametrize("precision", ["int8", torch.int8])
def test_a_machine_without_eight_bits_says_so(measured, monkeypatch, precision):
    monkeypatch.setattr(propagation, "eight_bits", lambda: 0)
    with pytest.raises(DeviceError, match="no convolutions in eight bits"):
        follow(measured, precision=precision)
    assert len(follow(measured)) == 12


def test_a_run_goes_on_in_the_same_eight_bits_only(measured, tmp_path):
    def begin(model):
        return follow(
            model, precision="int8", checkpoint=Checkpoint(tmp_path, 1, resume=True), stop=8
        )

    image, labels = disc_volume(12)
    some = propagate(
        image, {6: labels[6]}, model=measured, device="cpu", precision="int8", stop=8,
        checkpoint=Checkpoint(tmp_path, 1),
    )  # fmt: skip
    for item in some:
        if item.index == 4:
            break
    some.close()
    other = copy.deepcopy(measured)
    other.activations = {k: (low, 2 * high) for k, (low, high) in measured.activations.items()}
    with pytest.raises(FileError):
        begin(other)
    assert begin(measured)


def test_weights_files_know_activations(measured, tmp_path):
    path, other = tmp_path / "known.safetensors", tmp_path / "any.txt"
    save_weights(measured, path, {"activations": "of another network", "name": "toy"})
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode, "others may read it, as any new file"
    assert load_model(path, device="cpu").activations == measured.activations
    plain = tiny_model()
    save_weights(plain, path, {"activations": "of another network"})
    assert load_model(path, device="cpu").activations == {}


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        '{"a": 1}',
        '{"a": [1, "x"]}',
        "{",
        '{"a": [0, NaN]}',
        '{"a": [0, Infinity]}',
        '{"a": [2, 1]}',
    ],
)
def test_a_damaged_header_is_told(text, tmp_path, monkeypatch):
    path = tmp_path / "odd.safetensors"
    save_weights(tiny_model(), path)
    real = load_model.__globals__["header_of"]
    monkeypatch.setitem(
        load_model.__globals__, "header_of", lambda p: {**real(p), "activations": text}
    )
    with pytest.raises(WeightsError, match="how far activations reach"):
        load_model(path, device="cpu")


def test_the_command_measures_what_may_be_used(tmp_path, monkeypatch):
    folder = tmp_path / "sequences" / "train" / "toy"
    folder.mkdir(parents=True)
    image, labels = disc_volume(12)
    for name in ("open", "closed"):
        np.savez(folder / f"{name}.npz", image=image, labels=labels, spacing=np.ones(3))
    known = [{"name": "toy/open", "use": "open"}, {"name": "toy/closed", "use": "research"}]
    (tmp_path / "sequences" / "manifest.json").write_text(json.dumps(known))
    save_weights(tiny_model(), tmp_path / "w.safetensors", {"name": "toy"})
    seen = []

    def measure(model, sequences, max_objects):
        seen.extend(s.name for s in sequences)
        return {"key_encoder.res2.0.conv1": (0.0, 1.234567)}

    monkeypatch.setattr(activations, "measure", measure)
    monkeypatch.setattr(activations, "KINDS", ("instruments",))
    weights = str(tmp_path / "w.safetensors")
    assert activations.main([weights, str(folder.parent)]) == 0
    assert seen == ["open", *(f"instruments_{seed}" for seed in range(4))]
    assert load_model(weights, device="cpu").activations == {
        "key_encoder.res2.0.conv1": (0.0, 1.2346)
    }


@pytest.mark.parametrize(
    "arguments", [["imos-compact", "."], ["w.safetensors", ".", "-o", "gone/o.safetensors"]]
)
def test_what_cannot_be_written_is_told_before_anything_is_measured(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save_weights(tiny_model(), tmp_path / "w.safetensors")
    monkeypatch.delattr(activations, "measure")
    assert activations.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_onednn_nothing_can_be_measured(monkeypatch):
    monkeypatch.setattr(activations, "native", lambda dtype: False)
    with pytest.raises(PropagationError, match="on x86 processors"):
        activations.measure(tiny_model(), [], 1)


def test_all_of_the_embedded_model_can_compute_in_eight_bits(monkeypatch):
    monkeypatch.setattr(quantised, "_LEAST_CHANNELS", 32)
    model = load_model("imos-compact", device="cpu")
    for grey in (True, False):
        modules = dict(prepared(model, torch.int8, grey=grey).named_modules())
        left = {
            name
            for name, m in modules.items()
            if QuantisedConv2d.can_replace(m) and not isinstance(m, QuantisedConv2d)
        }
        assert not left
        assert all(isinstance(modules[name], QuantisedConv2d) for name in model.activations)
