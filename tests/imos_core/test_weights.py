"""Weights: what is saved comes back, and nothing else is trusted."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from tiny import TINY, TINY_R50, tiny_model

from imos_core import load_model, weights
from imos_core.config import IMOS_COMPACT, ModelConfig
from imos_core.device import arithmetic, flushing_denormals, pick_device
from imos_core.errors import DeviceError, FileWarning, WeightsError
from imos_core.model import IMOS
from imos_core.model.adapter import adapter_state_dict, freeze_encoders
from imos_core.tensor_files import read_state
from imos_core.weights import list_models, load_shared, network_for, save_adapter, save_weights

EMBEDDED = list_models()[0]


@pytest.fixture
def reference(tmp_path, monkeypatch):
    """A file of a narrow iMOS with some tensors changed, and its network."""
    shape = replace(TINY_R50, query_depths=(1, 1, 6), adapters=True, normalisation="zscore")
    monkeypatch.setattr("imos_core.reference_states.IMOS_R50", shape)
    model = tiny_model(shape).eval()

    def make(**changed):
        state = {**model.state_dict(), **changed}
        torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "imos.pth")
        return tmp_path / "imos.pth"

    return model, make


def test_weights_for_one_object_take_nothing_from_others(reference):
    model, make = reference
    name = "value_encoder.conv1.weight"
    found = load_model(make(**{name: model.state_dict()[name][:, :4]}), device="cpu").state_dict()
    assert found[name].shape[1] == 5
    assert not found[name][:, 4].any()
    torch.testing.assert_close(found[name][:, :4], model.state_dict()[name][:, :4])


def test_a_block_without_its_adapter_is_as_without_adapters(reference):
    model, make = reference
    lacking = "key_encoder.layer3.2."
    gone = {k: None for k in model.state_dict() if k.startswith(f"{lacking}adapter.")}
    with pytest.warns(FileWarning, match="lacks the adapters of 1 of 11 blocks"):
        found = load_model(make(**gone), device="cpu")
    assert found.key_encoder.layer3[2].adapter.conv.weight.any(), "it could still learn"
    model.load_state_dict({**model.state_dict(), f"{lacking}adapter.gate": torch.zeros(1)})
    for one, other in zip(found.key_encoder.layer3, model.key_encoder.layer3, strict=True):
        x = torch.rand(1, one.conv1.in_channels, 4, 4)
        torch.testing.assert_close(one(x), other(x))


@pytest.mark.parametrize(
    "name", ["key_encoder.layer3.2.adapter.gate", "key_proj.key_proj.weight", "decoder.pred.bias"]
)
def test_a_reference_state_that_lacks_a_tensor_is_refused(reference, name):
    with pytest.raises(WeightsError, match=rf"{name} is missing"):
        load_model(reference[1](**{name: None}), device="cpu")


def test_a_saved_network_comes_back(tmp_path):
    model = tiny_model()
    save_weights(model, tmp_path / "tiny.safetensors", {"note": "test"})
    loaded = load_model(tmp_path / "tiny.safetensors", device="cpu")
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(
            loaded.state_dict()[name], tensor.half().to(tensor.dtype), msg=name
        )
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_network_holds_no_file(tmp_path):
    """Windows replaces none that is mapped, as long as the network lives."""
    me = psutil.Process()
    if not hasattr(me, "memory_maps"):
        pytest.skip("this system does not say what is mapped")
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny_model(), path, half=False)
    network = load_model(path, device="cpu")
    assert path.name not in {Path(seen.path).name for seen in me.memory_maps()}
    assert network.config == TINY


def test_the_embedded_model_is_loaded_once(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_EMBEDDED", tmp_path)
    path = tmp_path / "imos-compact.safetensors"
    save_weights(tiny_model(), path)
    shared = load_shared("imos-compact", device="cpu")
    assert load_shared("imos-compact", device="cpu") is shared
    # who may change a network gets one of their own, and files are read each time
    assert load_model("imos-compact", device="cpu") is not shared
    assert load_shared(path, device="cpu") is not shared
    save_weights(tiny_model(replace(TINY, key_dim=16)), path)
    assert load_shared("imos-compact", device="cpu").config.key_dim == 16
    path.unlink()
    with pytest.raises(WeightsError, match="install napari-imos again"):
        load_shared("imos-compact", device="cpu")


def test_the_embedded_model_keeps_its_promises():
    assert EMBEDDED.available
    assert EMBEDDED.parameters <= 8_000_000
    assert EMBEDDED.size_bytes <= 16_000_000
    assert {v.dtype for v in _raw(EMBEDDED.path).values()} == {torch.float16}
    assert load_model("imos-compact", device="cpu").config == IMOS_COMPACT


def _raw(path):
    import safetensors.torch

    return safetensors.torch.load_file(path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(WeightsError, match="imos-compact"):
        load_model("imos-huge")


def test_a_network_is_no_name_of_one():
    with pytest.raises(WeightsError, match=r"^IMOS is no model to load.*as it is\.$"):
        load_model(tiny_model())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.pth does not exist"):
        load_model(tmp_path / "gone.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"\x00\x01 not a model")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_model(path)


def test_torch_says_nothing_of_its_own_about_a_pickle(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({}, protocol=4))
    with pytest.raises(WeightsError, match=r"cannot be read \(UnpicklingError\)"):
        read_state(tmp_path / "w.pth")


def test_sparse_tensors_are_refused(tmp_path):
    state = {"first": torch.zeros(2), "key_proj": torch.eye(3).to_sparse()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds a sparse tensor, key_proj"):
        read_state(tmp_path / "w.pth")


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was executed",))

    path = tmp_path / "evil.pth"
    with path.open("wb") as file:
        pickle.dump({"w": Evil()}, file)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_model(path)


def test_another_networks_checkpoint_is_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no checkpoint of XMem or iMOS"):
        load_model(tmp_path / "other.pth")


def test_an_incomplete_file_names_the_tensor(tmp_path):
    model = tiny_model()
    save_weights(model, tmp_path / "tiny.safetensors")
    import safetensors.torch

    state = safetensors.torch.load_file(tmp_path / "tiny.safetensors")
    del state["decoder.pred.bias"]
    with pytest.raises(WeightsError, match=r"decoder\.pred\.bias is missing"):
        _save_and_load(state, tmp_path, model.config)


def _save_and_load(state, folder, shape, **header):
    import json
    from dataclasses import asdict

    import safetensors.torch

    path = folder / "changed.safetensors"
    told = {"config": json.dumps(asdict(shape)), **header}
    safetensors.torch.save_file(state, path, told)
    return load_model(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path, bad):
    state = {k: v.contiguous() for k, v in tiny_model().state_dict().items()}
    state["decoder.pred.bias"] = torch.tensor([bad])
    with pytest.raises(WeightsError, match=r"damaged: its tensor decoder\.pred\.bias holds"):
        _save_and_load(state, tmp_path, TINY)
    torch.save({"decoder.pred.bias": torch.tensor([bad])}, tmp_path / "adapter.pth")
    save_weights(tiny_model(), tmp_path / "base.safetensors")
    with pytest.raises(WeightsError, match=r"adapter\.pth is damaged"):
        load_model(tmp_path / "base.safetensors", adapter=tmp_path / "adapter.pth")


def test_tensors_of_another_type_are_refused(tmp_path):
    state = {k: v.contiguous() for k, v in tiny_model().state_dict().items()}
    state["decoder.pred.bias"] = torch.ones(1, dtype=torch.int32)
    with pytest.raises(WeightsError, match=r"decoder\.pred\.bias is unknown or of another"):
        _save_and_load(state, tmp_path, TINY)


@pytest.mark.parametrize("bad", [70000.0, float("nan")])
def test_what_float16_cannot_hold_is_not_written(tmp_path, bad):
    model, path = tiny_model(), tmp_path / "tiny.safetensors"
    save_weights(model, path)
    before = path.read_bytes()
    model.decoder.pred.bias.data.fill_(bad)
    with pytest.raises(WeightsError, match=r"not written, as tensor decoder\.pred\.bias"):
        save_weights(model, path)
    with pytest.raises(WeightsError, match="not written"):
        save_adapter(
            {"x.adapter.bias": torch.tensor([bad])}, tiny_model(), tmp_path / "a.safetensors"
        )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden_dim": 10**9},
        {"query_depths": (1, 10**9, 1)},
        {"window_size": 10**9},
        {"window_size": 0},
        {"key_dim": "8"},
        {"value_planes": (8, 8)},
        {"memory_stride": 2},
        {"normalisation": "none"},
        {"flow": 1},
        {"gate_reduction": 64},
    ],
)
def test_a_shape_that_no_network_has_is_refused(tmp_path, changed):
    with pytest.raises(WeightsError, match="no model of this version"):
        _save_and_load({"w": torch.zeros(1)}, tmp_path, replace(TINY, **changed))


@pytest.mark.parametrize("field", ["config", "activations"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": [1e400, "b"]}', "[]"])
def test_a_damaged_header_is_refused(tmp_path, field, text):
    state = {k: v.contiguous() for k, v in tiny_model().state_dict().items()}
    with pytest.raises(WeightsError, match=r"no model of this version|header of .* is damaged"):
        _save_and_load(state, tmp_path, TINY, **{field: text})


def test_a_file_without_configuration_is_refused(tmp_path):
    import safetensors.torch

    safetensors.torch.save_file({"w": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="no model of this version"):
        load_model(tmp_path / "w.safetensors")


def test_an_adapter_changes_only_adapters(tmp_path):
    from dataclasses import replace

    import safetensors.torch

    base = tiny_model()
    save_weights(base, tmp_path / "base.safetensors")
    adapted = tiny_model(replace(TINY, adapters=True))
    safetensors.torch.save_file(adapter_state_dict(adapted), tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "base.safetensors", adapter=tmp_path / "a.safetensors")
    for name, tensor in base.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor.half().to(tensor.dtype))
    assert adapter_state_dict(loaded).keys() == adapter_state_dict(adapted).keys()


def test_an_adapter_on_top_of_a_network_is_on_a_copy_of_it(tmp_path):
    save_weights(tiny_model(), tmp_path / "base.safetensors")
    base = load_model(tmp_path / "base.safetensors", device="cpu")
    base.activations = {"key_proj.key_proj": (-1.0, 2.0)}
    before = {k: v.clone() for k, v in base.state_dict().items()}
    tuned = {k: before[k] + 1 for k in ("decoder.pred.bias", "key_proj.key_proj.bias")}
    file = tmp_path / "a.safetensors"
    save_adapter(tuned, base, file)
    network = network_for(base, adapter=file)
    expected = load_model(tmp_path / "base.safetensors", adapter=file, device="cpu").state_dict()
    assert network.state_dict().keys() == expected.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name])
        tensor.zero_()
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())
    assert network.activations == base.activations
    assert network_for(base) is base
    with pytest.raises(WeightsError, match="the model given is a network"):
        network_for(tiny_model(replace(TINY, key_dim=16)), adapter=file)


def test_a_network_stays_on_its_device():
    network = tiny_model()
    assert network_for(network, device="cpu") is network_for(network, device="cpu:0") is network
    with pytest.raises(DeviceError, match="Device 'toaster' is unknown"):
        network_for(network, device="toaster")
    with pytest.raises(DeviceError, match="The network is on meta, not on cpu"):
        network_for(network.to("meta"), device="cpu")


def test_only_adapters_of_the_encoders_are_trained():
    from dataclasses import replace

    model = IMOS(replace(TINY, adapters=True))
    freeze_encoders(model)
    for name, parameter in model.named_parameters():
        inside = name.startswith(("key_encoder.", "value_encoder."))
        assert parameter.requires_grad == (not inside or ".adapter." in name), name


def test_read_state_gives_float32(tmp_path):
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    assert {v.dtype for v in read_state(tmp_path / "tiny.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(name):
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }[name]
    if available:
        assert pick_device(name).type == name
    else:
        with pytest.raises(DeviceError, match="available here"):
            pick_device(name)


def test_an_unknown_device_is_refused():
    with pytest.raises(DeviceError, match="unknown"):
        pick_device("toaster")


@pytest.mark.parametrize("name", ["double", 3, {"a": 1}, None])
def test_an_unknown_precision_is_refused(name):
    with pytest.raises(DeviceError, match="unknown"):
        arithmetic(name, torch.device("cpu"))


def test_precisions():
    cpu = torch.device("cpu")
    for name, short in (("float32", "fp32"), ("bfloat16", "bf16"), ("float16", "fp16")):
        dtype = getattr(torch, name)
        assert {arithmetic(p, cpu) for p in (dtype, name, short)} == {dtype}
    assert arithmetic("auto", cpu) in (torch.float32, torch.bfloat16)


def test_a_gpu_that_only_imitates_bfloat16_computes_float32(monkeypatch):
    def supported(including_emulation=True):
        return including_emulation

    def supported_in_older_versions():
        return True

    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert arithmetic("auto", gpu) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported_in_older_versions)
    assert arithmetic("auto", gpu) == torch.bfloat16


def test_the_smallest_numbers_are_zero_only_while_it_is_asked_for():
    tiny = torch.full((8,), 1e-30)
    with flushing_denormals():
        inside = tiny * 1e-10
    # a processor that cannot keeps them, which is slow but right
    if torch.set_flush_denormal(False):
        assert not inside.any()
    with pytest.raises(ZeroDivisionError), flushing_denormals():
        raise ZeroDivisionError
    assert (tiny * 1e-10).all()


@pytest.mark.parametrize(
    ("name", "vectors", "tiles", "expected"),
    [
        ("AMD EPYC 9B14", True, False, torch.bfloat16),
        ("Intel Xeon", True, True, torch.bfloat16),
        ("Intel Xeon", True, False, torch.float32),
        ("Intel Core", False, False, torch.float32),
        ("Apple M2", False, False, torch.float32),
    ],
)
def test_bfloat16_is_chosen_where_it_is_faster(monkeypatch, name, vectors, tiles, expected):
    for what, value in (
        ("get_capabilities", {"cpu_name": name}),
        ("_is_avx512_bf16_supported", vectors),
        ("_is_amx_tile_supported", tiles),
    ):
        monkeypatch.setattr(torch.cpu, what, lambda value=value: value, raising=False)
    assert arithmetic("auto", torch.device("cpu")) == expected
    assert arithmetic("bfloat16", torch.device("cpu")) == torch.bfloat16


def test_a_torch_that_does_not_know_its_processor_stays_with_float32(monkeypatch):
    for what in ("get_capabilities", "_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, what, raising=False)
    assert arithmetic("auto", torch.device("cpu")) == torch.float32


def test_configurations_are_values():
    assert ModelConfig("a") == ModelConfig("a")
    assert hash(IMOS_COMPACT) != hash(ModelConfig("a"))
