"""The four phases on tiny data, and what a run promises: seeds, checkpoints, adapters, scores."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from tiny import TINY, disc_volume, tiny_model

import imos_core.training.run
from imos_core.adapter_headers import header_of
from imos_core.cli import main as command
from imos_core.config import PRESETS, MemoryConfig
from imos_core.data.batches import Batch
from imos_core.data.sources import sequence_names
from imos_core.errors import FileError, WeightsError
from imos_core.preprocess import normalise
from imos_core.tensor_files import read_state
from imos_core.training.config import TrainConfig, read_config
from imos_core.training.examples import EXAMPLES
from imos_core.training.overflow import overflow_pass
from imos_core.training.phases import network_of, sources_of
from imos_core.training.promote import main as promote
from imos_core.training.run import train
from imos_core.training.validation import judge
from imos_core.weights import load_model, save_weights

RECORDED = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Sums on several threads depend on their number."""
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    """A folder with sequences of two modalities, and a static image."""
    image, labels = disc_volume(12)
    for folder in ("train/toy", "train/other", "val/toy"):
        (tmp_path / folder).mkdir(parents=True)
        np.savez(tmp_path / folder / "a.npz", image=image, labels=labels, spacing=np.ones(3))
    (tmp_path / "static/toy").mkdir(parents=True)
    Image.fromarray(image[0]).save(tmp_path / "static/toy/a.jpg")
    Image.fromarray(labels[0].astype(np.uint8)).save(tmp_path / "static/toy/a.png")
    return tmp_path


def quick(data, **changes):
    """A phase of a few steps of a tiny network, repeatable and with no clock in it."""
    settings = {
        "model": "tiny",
        "sequences": str(data / "train"),
        "weights": {"sequences": 1.0},
        "frames": 4,
        "size": 32,
        "batch_size": 2,
        "steps": 4,
        "workers": 0,
        "warm_up_steps": 2,
        "bfloat16": False,
        **changes,
    }
    return TrainConfig(**settings)


def rows(folder, name="log.csv"):
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def losses(folder):
    return [row["loss"] for row in rows(folder)]


def test_there_are_the_four_phases_of_the_paper():
    assert [p.stem for p in EXAMPLES] == ["1-static", "2-long", "3-short", "4-adapters"]
    static, long, short, adapters = (read_config(p) for p in EXAMPLES)
    assert set(static.weights) == {"static"}
    assert static.thin_plate > 0
    assert static.occlusions > 0
    assert long.memory is not None
    # more memory frames than working memory holds, so that it overflows within a clip
    assert long.frames // long.memory.memorize_every > 1.5 * long.memory.max_working_frames
    assert long.frames > long.truncate
    assert short.memory is None
    assert short.frames < long.frames
    assert (adapters.adapters, adapters.trainable) == (True, "decoder")


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_the_loss_of_every_phase_falls(path, data, tmp_path):
    config = read_config(path)
    config = replace(
        config,
        model="tiny",
        static=config.static and str(data / "static"),
        sequences=config.sequences and str(data / "train"),
        weights={k: v for k, v in config.weights.items() if k != "synthetic"},
        validation=str(data / "val"),
        steps=30,
        size=32,
        batch_size=4,
        frames=min(config.frames, 8),
        learning_rate=5e-3,
        warm_up_steps=3,
        average=0.9,
        workers=0,
        bfloat16=False,
        # the cross entropy of the hardest pixels cannot be compared with that of all
        mine_from=1.0,
        mine_to=1.0,
    )
    out = tmp_path / "out"
    weights = train(config, out, device="cpu")
    values = [float(x) for x in losses(out)]
    assert len(values) == 30
    assert np.mean(values[-8:]) < 0.85 * np.mean(values[:8])
    model = load_model(weights, device="cpu")
    assert model.config.adapters == config.adapters
    assert (out / "best.safetensors").exists()
    assert {r["modality"] for r in rows(out, "validation.csv")} == {"toy"}


@pytest.mark.parametrize("kind", ["short", "long"])
def test_the_same_seed_gives_the_same_losses(kind, data, tmp_path):
    config = quick(data, turns=0.5, memory=MemoryConfig() if kind == "long" else None)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(replace(config, seed=seed), tmp_path / name, device="cpu")
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened(data, tmp_path, monkeypatch):
    # two references of up to four frames are drawn, which the generator's state decides
    config = quick(data, frames=5, references=2, steps=6, save_minutes=0.0)
    train(config, tmp_path / "whole", device="cpu")

    calls = []
    original = imos_core.training.run.training_pass

    def cut_off(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(imos_core.training.run, "training_pass", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut", device="cpu")
    monkeypatch.undo()
    PRESETS["tiny"] = TINY
    assert len(losses(tmp_path / "cut")) == 3
    checkpoint = tmp_path / "cut/checkpoint.pt"
    weights = train(config, tmp_path / "cut", resume=str(checkpoint), device="cpu")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole = read_state(tmp_path / "whole/weights.safetensors")
    for name, tensor in read_state(weights).items():
        torch.testing.assert_close(tensor, whole[name], msg=name)


def test_rows_after_the_checkpoint_are_written_anew(data, tmp_path):
    config = quick(data, steps=2)
    train(config, tmp_path / "out", device="cpu")
    with (tmp_path / "out/log.csv").open("a") as file:
        file.write("7,1,1,1,1\n")
    checkpoint = str(tmp_path / "out/checkpoint.pt")
    train(replace(config, steps=3), tmp_path / "out", resume=checkpoint, device="cpu")
    assert [row["step"] for row in rows(tmp_path / "out")] == ["0", "1", "2"]


def _save(path, model=None):
    save_weights(model or tiny_model(), path)
    return path


def changed(before, after):
    """Names of tensors that differ by more than half precision."""
    return {k for k, v in after.items() if k not in before or not v.allclose(before[k], atol=1e-3)}


def test_a_base_without_adapters_starts_a_network_with_them(tmp_path):
    base = read_state(_save(tmp_path / "base.safetensors"))
    model, fresh = network_of(TrainConfig(model="tiny", adapters=True), base)
    assert fresh
    assert all(".adapter." in name for name in fresh)
    state = model.state_dict()
    for name, tensor in base.items():
        torch.testing.assert_close(state[name], tensor)


def test_adapters_of_the_weights_are_kept_by_a_phase_that_names_none(tmp_path):
    path = _save(tmp_path / "a.safetensors", tiny_model(replace(TINY, adapters=True)))
    model, fresh = network_of(TrainConfig(model="tiny"), read_state(path))
    assert model.config.adapters
    assert fresh == []


def test_tuning_leaves_both_encoders_alone(data, tmp_path):
    base = _save(tmp_path / "base.safetensors")
    config = quick(
        data, adapters=True, trainable="decoder", learning_rate=0.05, average=0.1, train_norms=True
    )
    weights = train(config, tmp_path / "out", resume=str(base), device="cpu")
    names = changed(read_state(base), read_state(weights))
    encoders = {n for n in names if n.startswith(("key_encoder.", "value_encoder."))}
    assert encoders
    assert all(".adapter." in n for n in encoders)
    assert any(n.startswith("decoder.") for n in names)
    assert any(n.startswith("key_proj.") for n in names)
    assert load_model(weights, device="cpu").config.adapters


@pytest.mark.parametrize("has_adapters", [False, True])
def test_a_modality_is_tuned_through_its_adapters_alone(has_adapters, data, tmp_path):
    shape = replace(TINY, adapters=has_adapters)
    base = _save(tmp_path / "base.safetensors", tiny_model(shape))
    content = base.read_bytes()
    config = quick(
        data,
        adapters=True,
        trainable="adapters",
        modalities=("toy",),
        learning_rate=0.05,
        average=0.1,
        steps=2,
    )
    out = tmp_path / "out"
    train(config, out, resume=str(base), device="cpu")
    checkpoint = str(out / "checkpoint.pt")
    weights = train(replace(config, steps=4), out, resume=checkpoint, device="cpu")
    tuned = read_state(weights)
    names = changed(read_state(base), tuned)
    assert names
    assert all(".adapter." in n for n in names)
    with safetensors.safe_open(out / "weights-adapter.safetensors", "pt") as file:
        assert file.metadata()["base_file"] == base.name
    # the adapter by itself fits the base, and makes the same network of it
    model = load_model(base, adapter=out / "weights-adapter.safetensors", device="cpu")
    for name, tensor in model.state_dict().items():
        if name in tuned:
            torch.testing.assert_close(tensor, tuned[name], msg=name)
    assert base.read_bytes() == content
    with pytest.raises(WeightsError, match="--resume"):
        train(config, tmp_path / "none", device="cpu")


def test_modalities_and_licences_choose_sequences(data):
    folder = data / "train"
    assert sequence_names(folder, ("open",)) is None
    assert sequence_names(folder, ("open",), ("toy",)) == {"toy/a"}
    manifest = [{"name": "toy/a", "use": "research"}, {"name": "other/a", "use": "open"}]
    (data / "manifest.json").write_text(json.dumps(manifest))
    assert sequence_names(folder, ("open",)) == {"other/a"}
    assert sequence_names(folder, ("open",), ("toy",)) == set()
    assert sequence_names(folder, ("open", "research"), ("toy",)) == {"toy/a"}


def test_what_is_left_out_is_said(data):
    config = quick(data, modalities=("toy", "tyo"))
    with pytest.raises(FileError, match=r"of tyo may be used in .*1 of other, 1 of toy"):
        sources_of(config)
    manifest = [{"name": "toy/a", "use": "research"}, {"name": "other/a", "use": "open"}]
    (data / "manifest.json").write_text(json.dumps(manifest))
    sources_of(quick(data))
    said = r"under the licences open in .*1 of other \(open\), 1 of toy \(research\)"
    with pytest.raises(FileError, match="of toy may be used " + said):
        sources_of(quick(data, modalities=("toy",)))
    with pytest.raises(FileError, match="under the licences opne"):
        sources_of(quick(data, licences=("opne",)))


def test_validation_may_lack_one_of_several_modalities(data, tmp_path, capsys):
    config = quick(data, steps=1, modalities=("toy", "other"), validation=str(data / "val"))
    train(config, tmp_path / "out", device="cpu")
    assert "no sequences of other: not validated" in capsys.readouterr().out
    assert {r["modality"] for r in rows(tmp_path / "out", "validation.csv")} == {"toy"}


def test_weights_say_whether_their_shape_is_that_of_the_preset(data, tmp_path):
    for shape, said in ((None, "tiny"), ({"key_dim": 12}, "tiny (shape of its own)")):
        weights = train(quick(data, steps=1, shape=shape), tmp_path / said, device="cpu")
        assert header_of(weights)["model"] == said


def test_a_phase_may_change_the_shape_of_its_network():
    network, _ = network_of(TrainConfig(shape={"memory_stride": 16, "flow": False}))
    assert network.config.memory_stride == 16
    assert not any(name.startswith("decoder.guide.flow") for name in network.state_dict())


def test_weights_of_another_network_are_refused(tmp_path):
    other = tiny_model(replace(TINY, key_dim=16)).state_dict()
    with pytest.raises(WeightsError, match="another network"):
        network_of(TrainConfig(model="tiny"), other, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="another network"):
        network_of(TrainConfig(model="tiny"), {"nothing": torch.zeros(1)})
    with pytest.raises(FileError, match="preset"):
        network_of(TrainConfig(model="giant"))


def test_emphasis_is_on_what_there_is(data):
    sources_of(quick(data, emphasis={"toy": 2.0, "other": 0.0}))
    with pytest.raises(FileError, match=r"emphasis names us_msc.*other, toy"):
        sources_of(quick(data, emphasis={"us_msc": 3.0}))
    with pytest.raises(FileError, match="leaves nothing of other, toy"):
        sources_of(quick(data, emphasis={"toy": 0.0, "other": 0.0}))


def test_every_phase_of_the_project_can_be_read():
    assert len(RECORDED) > 10
    for path in RECORDED:
        read_config(path)


def test_a_file_that_is_no_checkpoint_is_refused(data, tmp_path):
    path = tmp_path / "some.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="no checkpoint"):
        train(quick(data), tmp_path / "out", resume=str(path), device="cpu")


def test_an_earlier_run_is_not_replaced_and_a_checkpoint_is_of_its_phase(data, tmp_path):
    config = quick(data, steps=1)
    weights = train(config, tmp_path / "out", device="cpu")
    before = weights.read_bytes()
    with pytest.raises(FileError, match="holds an earlier run"):
        train(config, tmp_path / "out", device="cpu")
    with pytest.raises(FileError, match="holds an earlier run"):
        train(config, tmp_path / "out", resume=str(weights), device="cpu")
    assert weights.read_bytes() == before
    other = replace(config, frames=config.frames + 1)
    with pytest.raises(WeightsError, match="another phase"):
        train(other, tmp_path / "on", resume=str(tmp_path / "out/checkpoint.pt"), device="cpu")


# ---- memory that overflows ----


def _batch(clips=2, frames=8):
    image, labels = disc_volume(frames, 32)
    sequence = torch.from_numpy(image).float()[:, None].expand(-1, 3, -1, -1) / 255
    return Batch(
        normalise(sequence, "zscore").expand(clips, -1, -1, -1, -1),
        torch.from_numpy(labels.astype(np.float32)).expand(clips, -1, -1, -1),
        torch.zeros(clips, frames, 32, 32),
    )


NARROW = MemoryConfig(
    memorize_every=1,
    min_working_frames=2,
    max_working_frames=3,
    num_prototypes=8,
    max_long_term_tokens=20,
)


def test_memory_overflows_and_is_evicted_on_the_way(monkeypatch):
    from imos_core.memory import ThreeTierMemory

    sizes = []
    read = ThreeTierMemory.read
    monkeypatch.setattr(
        ThreeTierMemory, "read", lambda m, *a: (sizes.append(m.sizes), read(m, *a))[1]
    )
    model = tiny_model().train()
    result = overflow_pass(
        model, _batch(), lambda x: x.backward(), memory=NARROW, truncate=3, iteration=0,
        warm_up=(1, 2),
    )  # fmt: skip
    tokens = 4 * 4  # of a frame of 32 pixels at stride 8
    assert max(s.working for s in sizes) < 3 * tokens
    # five consolidations would make 40 tokens, if none were evicted
    assert [s.long_term for s in sizes] == [0, 0, 8, 16, 20, 20, 20]
    assert 0 <= result.jaccard <= 1


def test_a_long_pass_reaches_every_parameter():
    model = tiny_model().train()
    # frames that are memorised refresh the sensory memory from there, the others from the decoder
    memory = replace(NARROW, memorize_every=2)
    overflow_pass(
        model, _batch(), lambda x: x.backward(), memory=memory, truncate=3, iteration=0,
        warm_up=(1, 2),
    )  # fmt: skip
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_one_stretch_is_the_whole_gradient_and_short_ones_sum_to_the_same_loss():
    gradients, totals = [], []
    for truncate in (7, 2):
        model, shares = tiny_model().train(), []

        def backward(loss, shares=shares):
            shares.append(float(loss.detach()))
            loss.backward()

        result = overflow_pass(
            model, _batch(), backward, memory=NARROW, truncate=truncate, iteration=0,
            warm_up=(1, 2),
        )  # fmt: skip
        assert sum(shares) == pytest.approx(float(result.loss) / 7, rel=1e-5)
        totals.append(float(result.loss))
        gradients.append(float(model.value_encoder.conv1.weight.grad.norm()))
        assert len(shares) == -(-7 // truncate)
    # truncation changes what flows back, not what is computed
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)
    assert gradients[0] != pytest.approx(gradients[1], rel=1e-3)


# ---- validation and promotion ----


@pytest.mark.parametrize(
    ("after", "better"),
    [
        ({"ct": 0.50, "us": 0.62}, True),
        ({"ct": 0.49, "us": 0.62}, True),  # loses exactly what it may
        ({"ct": 0.489, "us": 0.90}, False),  # loses a little more, whatever the mean
        ({"ct": 0.50, "us": 0.60}, False),  # no gain
        ({"ct": 0.499, "us": 0.6}, False),
    ],
)
def test_weights_are_replaced_by_better_ones_only(after, better):
    verdict = judge({"ct": 0.50, "us": 0.60}, after)
    assert verdict.better is better


def test_weights_are_compared_on_the_same_modalities():
    with pytest.raises(ValueError, match="same modalities"):
        judge({"ct": 0.5}, {"us": 0.5})


def test_promotion_replaces_the_file_only_if_it_is_better(data, tmp_path, monkeypatch, capsys):
    import imos_core.training.promote as module

    old, new = _save(tmp_path / "old.safetensors"), tmp_path / "new.safetensors"
    model = tiny_model()
    torch.nn.init.zeros_(model.decoder.pred.weight)
    _save(new, model)
    content = old.read_bytes()
    assert content != new.read_bytes()
    arguments = [str(new), "--over", str(old), "--data", str(data / "val"), "--device", "cpu"]
    # random networks: one of the two is better or they are equal; judge both ways by decree
    for decree, code in ((0.0, 1), (0.1, 0)):
        scores = iter([{"toy": 0.5}, {"toy": 0.5 + decree}])
        monkeypatch.setattr(module, "scores_by_modality", lambda _, scores=scores: next(scores))
        assert promote([*arguments, "--max-objects", "1"]) == code
        assert "toy" in capsys.readouterr().out
        assert old.read_bytes() == (new.read_bytes() if decree else content)
    assert promote([str(tmp_path / "none.safetensors"), *arguments[1:]]) == 2


def test_a_steady_promotion_asks_every_object_twelve_times(data, tmp_path, monkeypatch, capsys):
    import imos_core.training.promote as module

    seen = []

    def scores(results):
        seen.append([r.protocol for r in results])
        return {"toy": 0.5}

    monkeypatch.setattr(module, "scores_by_modality", scores)
    weights = str(_save(tmp_path / "weights.safetensors"))
    arguments = [weights, "--over", weights, "--data", str(data / "val"), "--device", "cpu"]
    assert promote([*arguments, "--max-objects", "1", "--steady", "--dry-run"]) == 1
    old, new = seen
    sequences = len(list((data / "val").glob("*/*.npz")))
    assert old == new == ["first", "last", "middle"] * 4 * sequences


def test_the_best_weights_of_a_phase_are_kept(data, tmp_path, monkeypatch, capsys):
    scores = iter([0.4, 0.6, 0.5])
    monkeypatch.setattr(imos_core.training.run, "balanced_score", lambda _: next(scores))
    config = quick(data, steps=2, validation=str(data / "val"), validation_minutes=0.0)
    train(config, tmp_path / "out", device="cpu")
    lines = [x for x in capsys.readouterr().out.splitlines() if "J&F" in x]
    assert lines[:2] == [
        "J&F on validation after 1 step: 0.400",
        "J&F on validation after 2 steps: 0.600, best so far 0.400",
    ]
    with safetensors.safe_open(tmp_path / "out/best.safetensors", "pt") as file:
        assert file.metadata()["steps"] == "2"
    logged = rows(tmp_path / "out", "validation.csv")
    assert [r["step"] for r in logged] == ["1", "1", "2", "2", "2", "2"]
    assert {r["protocol"] for r in logged} == {"first", "middle"}
    assert all(0 <= float(r["j_and_f"]) <= 1 for r in logged)


@pytest.mark.parametrize("wrong", ["missing", "other modality", "unreadable", "nothing labelled"])
def test_validation_that_cannot_be_is_refused_before_the_first_step(wrong, data, tmp_path):
    folder, modalities = data / "val", ()
    if wrong == "missing":
        folder = data / "nope"
    elif wrong == "other modality":
        modalities = ("other",)
    elif wrong == "unreadable":
        (folder / "toy/b.npz").write_text("no archive")
    else:
        image, labels = disc_volume(12)
        np.savez(folder / "toy/a.npz", image=image, labels=0 * labels, spacing=np.ones(3))
    config = quick(data, validation=str(folder), modalities=modalities)
    with pytest.raises(FileError, match=str(folder)):
        train(config, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out/log.csv").exists()


def test_weights_are_saved_before_they_are_validated(data, tmp_path, monkeypatch):
    def gone(*_, **__):
        raise FileError("The drive is gone.")

    monkeypatch.setattr(imos_core.training.run, "validate", gone)
    config = quick(data, steps=1, validation=str(data / "val"))
    with pytest.raises(FileError, match="drive"):
        train(config, tmp_path / "out", device="cpu")
    assert read_state(tmp_path / "out/weights.safetensors")
    assert torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)["step"] == 1


def test_the_checkpoint_knows_the_best_score(data, tmp_path, monkeypatch):
    monkeypatch.setattr(imos_core.training.run, "balanced_score", lambda _: 0.5)
    config = quick(data, steps=1, validation=str(data / "val"))
    train(config, tmp_path / "out", device="cpu")
    assert torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)["best"] == 0.5


def test_frozen_parameters_get_no_gradient_from_other_processes(data, tmp_path, monkeypatch):
    # a gradient of 0 would let the optimiser decay them
    config = quick(data, adapters=True, trainable="decoder")
    trainer = imos_core.training.run._Trainer(config, torch.device("cpu"), tmp_path, None)
    trainer.world = 2
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    trainer._average_gradients()
    for name, parameter in trainer.model.named_parameters():
        assert (parameter.grad is not None) is parameter.requires_grad, name


def test_a_run_starts_from_a_model_by_its_name(data, tmp_path):
    config = quick(data, model="imos-compact", frames=2, batch_size=1, steps=1, train_norms=False)
    weights = train(config, tmp_path / "out", resume="imos-compact", device="cpu")
    known = load_model("imos-compact", device="cpu").state_dict()
    moved = [k for k, v in read_state(weights).items() if not torch.allclose(v, known[k], atol=0.1)]
    assert moved == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["."], "is a folder: give the TOML file of a phase"),
        (["none.toml"], "none.toml does not exist"),
        (["phase.toml", "--resume", "."], "is a folder: give weights or a checkpoint"),
        (["phase.toml", "--resume", "none.pt"], "none.pt does not exist"),
        (["phase.toml", "--resume", "imos-giant"], "no model named 'imos-giant'"),
    ],
)
def test_files_of_a_run_that_are_none(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phase.toml").write_text("")
    assert command(["train", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_help_names_the_phases_that_there_are(capsys):
    assert command(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for path in EXAMPLES:
        assert f"imos train phases/{path.name}" in shown


def test_the_phases_of_the_package_become_files(tmp_path, capsys):
    folder = str(tmp_path / "new" / "phases")
    assert command(["train", "--example", folder]) == 0
    shown = capsys.readouterr().out
    for path in EXAMPLES:
        assert path.name in shown
        copy = tmp_path / "new/phases" / path.name
        assert copy.read_bytes() == path.read_bytes()
    copy.write_text("minutes = 1")  # somebody's own settings
    assert command(["train", "--example", folder]) == 2
    assert "is there already" in capsys.readouterr().err
    assert copy.read_text() == "minutes = 1"
    assert command(["train", "--example", folder, str(copy)]) == 2
    assert command(["train"]) == 2
    assert "either" in capsys.readouterr().err
