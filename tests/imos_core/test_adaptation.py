"""Adapting to an image: it learns, is never worse than the base, and its file fits the base."""

from __future__ import annotations

import errno
import itertools
import re
import shutil
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from tiny import disc_volume, tiny_model

import imos_core
from imos_core import adapt, io, load_model, propagate
from imos_core.adaptation import check
from imos_core.adaptation.check import Check, plan_check
from imos_core.adaptation.clips import PaintedClips
from imos_core.adaptation.tune import learning, with_adapters
from imos_core.cli import main
from imos_core.errors import DeviceError, FileError, PromptError, WeightsError
from imos_core.io import write_labels
from imos_core.model import prepared
from imos_core.model.quantised import eight_bits
from imos_core.preprocess import intensity_window
from imos_core.sweep import Sweep
from imos_core.tensor_files import fingerprint_of, read_state
from imos_core.weights import save_adapter, save_weights

PAINTED = (1, 4, 7)


@pytest.fixture(scope="module")
def disc():
    return disc_volume(9, 48)


@pytest.fixture(scope="module")
def prompts(disc):
    return {k: disc[1][k] for k in PAINTED}


@pytest.fixture(scope="module")
def base_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "base.safetensors"
    save_weights(tiny_model(), file)
    return file


def fingerprint(model):
    return fingerprint_of(model.state_dict())


def ticking(step=0.02):
    """Make a clock that goes on by `step` seconds whenever it is read."""
    ticks = itertools.count()
    return lambda: step * next(ticks)


def adapted(disc, prompts, model, **more):
    options = {"model": model, "device": "cpu", "precision": "float32", "clock": ticking()}
    return adapt(disc[0], prompts, **{**options, **more})


@pytest.fixture(scope="module")
def result(disc, prompts, base_file):
    """A random network learns so much in a few steps that it wins."""
    return adapted(disc, prompts, load_model(base_file, device="cpu"), seconds=10.0)


def test_it_learns_and_wins_on_what_was_held_back(result):
    losses = result.losses
    assert len(losses) > 60
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    assert result.better
    assert result.after > result.before
    assert (result.held_back, result.count, result.painted) == ("slices", 1, 3)
    assert f"{result.before:.3f} -> {result.after:.3f} (1 slice): adapter written" in result.message


def test_it_is_judged_in_the_arithmetic_that_it_is_used_in(disc, prompts, monkeypatch):
    if not eight_bits():
        pytest.skip("no eight bits on this processor")
    asked = []
    real = prepared.for_inference

    def noted(model, dtype, *, grey=False):
        asked.append((dtype, model.config.adapters))
        return real(model, dtype, grey=grey)

    monkeypatch.setattr(prepared, "for_inference", noted)
    base = tiny_model()
    base.activations = {"decoder.fuser.block1.conv1": (0.0, 4.0)}
    result = adapted(disc, prompts, base, precision="int8", seconds=2.0)
    assert {dtype for dtype, _ in asked} == {torch.int8}
    assert {adapters for _, adapters in asked} == {False, True}
    assert result.losses, "learned, in another type"


def test_it_is_said_in_one_line(result):
    assert repr(result).count("\n") == 0
    assert f"before={result.before!r}" in repr(result)


def test_the_base_is_left_alone(disc, prompts):
    base = tiny_model()
    before = fingerprint(base)
    adapted(disc, prompts, base, seconds=2.0)
    assert fingerprint(base) == before
    assert not base.training


def test_encoders_stay_but_for_their_adapters(result):
    for name in result.tensors:
        assert ".adapter." in name or name.startswith(("key_proj.", "decoder.")), name
    assert any(name.endswith("adapter.gate") for name in result.tensors)


def test_new_adapters_do_nothing(disc):
    base = tiny_model()
    frame = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for a, b in zip(with_adapters(base).encode_query(frame), base.encode_query(frame), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_new_adapters_do_not_depend_on_what_torch_makes_by_default():
    base = tiny_model()
    expected = with_adapters(base).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        found = with_adapters(base).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(v, found[k]) and v.dtype == found[k].dtype for k, v in expected.items())


def test_gates_open_in_a_few_steps(result):
    gates = [v for k, v in result.tensors.items() if k.endswith("adapter.gate")]
    assert all(abs(float(g)) > 1e-4 for g in gates)


def test_descriptors_and_presence_stay_frozen():
    from dataclasses import replace

    from tiny import TINY

    from imos_core.model import IMOS

    model = IMOS(replace(TINY, descriptors=True, presence=8, adapters=True))
    learning(model)
    for name, parameter in model.named_parameters():
        if "descriptors" in name or name.startswith("presence"):
            assert not parameter.requires_grad, name


def test_the_file_brings_the_tuned_network_back(disc, result, base_file, tmp_path):
    assert result.better
    result.save(str(tmp_path / "mine.safetensors"))
    loaded = load_model(base_file, adapter=tmp_path / "mine.safetensors", device="cpu")
    kept = {k: v for k, v in result.model.state_dict().items() if "num_batches" not in k}
    for name, tensor in kept.items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    ours, theirs = (
        [s.labels for s in propagate(disc[0], {4: disc[1][4]}, model=m, precision="float32")]
        for m in (result.model, loaded)
    )
    assert np.mean(np.array(ours) != np.array(theirs)) < 0.01
    assert stat.S_IMODE((tmp_path / "mine.safetensors").stat().st_mode) == 0o644


def test_the_header_says_what_it_is(result, tmp_path):
    import safetensors

    result.save(tmp_path / "mine.safetensors")
    with safetensors.safe_open(tmp_path / "mine.safetensors", "pt") as file:
        header = file.metadata()
    assert header["base"] == "tiny"
    assert header["base_sha256"] == fingerprint(tiny_model().half().float())
    assert (header["name"], header["modality"]) == ("mine", "")
    assert header["slices"] == "3"
    assert float(header["j_and_f_after"]) > float(header["j_and_f_before"])
    assert header["date"]


def test_it_is_refused_on_another_base(disc, prompts, result, tmp_path):
    result.save(tmp_path / "mine.safetensors")
    torch.manual_seed(1)
    other = imos_core.IMOS(tiny_model().config)
    save_weights(other, tmp_path / "other.safetensors")
    known = fingerprint(tiny_model().half().float())[:12]
    said = rf"tuned for .*{known}\), but .* other.safetensors .*{fingerprint(other)[:12]}"
    with pytest.raises(WeightsError, match=said):
        load_model(tmp_path / "other.safetensors", adapter=tmp_path / "mine.safetensors")


def test_an_adapter_says_which_file_it_is_for(base_file, tmp_path, capsys):
    path = tmp_path / "mine.safetensors"
    base = load_model(base_file, device="cpu")
    save_adapter({"decoder.pred.bias": torch.zeros(1)}, base, path, {"steps": "3"})
    assert main(["weights", "info", str(path)]) == 0
    shown = capsys.readouterr().out
    named = f"{base_file.name} (fingerprint {fingerprint(base)[:12]})"
    assert re.search(rf"kind +adapter\ntuned for +{re.escape(named)}", shown)
    assert re.search(r"steps +3", shown)
    assert main(["weights", "info", str(base_file)]) == 0
    assert f"{fingerprint(base)[:12]}\n" in capsys.readouterr().out
    with pytest.raises(WeightsError, match=re.escape(f"on top of {named}")):
        load_model(path)


def test_an_adapter_for_a_network_that_came_from_no_file(base_file, tmp_path):
    base = load_model(base_file, device="cpu")
    base.origin = ""
    save_adapter({"decoder.pred.bias": torch.ones(1)}, base, tmp_path / "old.safetensors")
    loaded = load_model(base_file, adapter=tmp_path / "old.safetensors", device="cpu")
    assert float(loaded.decoder.pred.bias) == 1
    with pytest.raises(WeightsError, match="weights of the preset tiny"):
        load_model(tmp_path / "old.safetensors")


def test_a_whole_model_is_no_adapter(base_file):
    with pytest.raises(WeightsError, match="whole model"):
        load_model(base_file, adapter=base_file)


def test_a_loser_is_not_kept(disc, prompts, base_file, tmp_path, monkeypatch):
    # the base scores 1 on whatever is held back, so nothing can beat it
    monkeypatch.setattr(Check, "score_base", lambda self, model, cancel, most: 1.0)
    base = load_model(base_file, device="cpu")
    result = adapted(disc, prompts, base, seconds=1.0)
    assert not result.better
    assert result.model is base
    assert "not better, base kept" in result.message
    result.save(tmp_path / "mine.safetensors")
    assert read_state(tmp_path / "mine.safetensors") == {}
    loaded = load_model(base_file, adapter=tmp_path / "mine.safetensors", device="cpu")
    assert loaded.config == base.config
    assert fingerprint(loaded) == fingerprint(base)


def test_a_single_slice_is_checked_on_other_sequences(disc):
    result = adapted(disc, {4: disc[1][4]}, tiny_model(), seconds=3.0)
    assert result.held_back == "clips"
    assert result.better
    assert "self-made sequences" in result.message


def test_it_keeps_its_time(disc, prompts):
    reports = []
    adapted(disc, prompts, tiny_model(), seconds=3.0, progress=reports.append)
    assert reports[-1].elapsed <= 3.0 + 0.1
    assert {r.stage for r in reports} == {"check", "tune"}
    steps = [r.step for r in reports]
    assert steps == sorted(steps)
    assert np.isfinite(reports[-1].loss)


def test_no_time_to_learn(disc, prompts):
    base = tiny_model()
    result = adapted(disc, prompts, base, seconds=0.05)
    assert result.model is base
    assert not result.losses
    assert result.message.startswith("the time was over before anything was learned: base kept")
    with pytest.raises(PromptError, match="seed must be a whole number"):
        adapted(disc, prompts, base, seed="a")
    with pytest.raises(PromptError, match="from 0, not -1"):
        adapted(disc, prompts, base, seed=-1)


def test_the_same_seed_gives_the_same_losses(disc, prompts):
    a, b = (adapted(disc, prompts, tiny_model(), seconds=1.5, seed=5).losses for _ in range(2))
    assert a == b
    assert a != adapted(disc, prompts, tiny_model(), seconds=1.5, seed=6).losses


def test_what_others_draw_does_not_matter_and_nothing_is_drawn_from_them(disc, prompts):
    base, found = tiny_model(), []
    for others in (1, 2):
        torch.manual_seed(others)
        before = torch.get_rng_state()
        found.append(adapted(disc, prompts, base, seconds=1.0).losses)
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0]
    assert found[0] == found[1]


def test_cancelling_keeps_the_base(disc, prompts):
    cancel = threading.Event()

    def stop(progress):
        if progress.step == 3:
            cancel.set()

    base = tiny_model()
    result = adapted(disc, prompts, base, seconds=60.0, cancel=cancel, progress=stop)
    assert result.model is base
    assert len(result.losses) == 3
    assert "stopped before" in result.message


def test_a_way_that_takes_too_long_is_thinned_out(disc, prompts):
    plan = planned(disc, {0: disc[1][0], 4: disc[1][4], 8: disc[1][8]}, clock=ticking(1.0))
    before = plan.score_base(tiny_model(), threading.Event(), 5.0)
    assert np.isfinite(before)
    assert {0, 4, 8} <= set(plan.route)
    assert len(plan.route) < 9
    assert np.isfinite(plan.score(tiny_model(), threading.Event()))


def planned(disc, prompts, **more):
    options = {
        "axis": 0, "labels": None, "precision": "float32", "contrast": None, "spacing": None,
        "channels_last": False, "seed": 0, "clock": ticking(),
    }  # fmt: skip
    return plan_check(disc[0], prompts, **{**options, **more})


def test_what_is_held_back(disc):
    _image, truth = disc

    def held(*painted):
        return planned(disc, {k: truth[k] for k in painted}).held_back

    assert held(4) == ()
    assert held(2, 6) == (6,)
    assert held(1, 4, 7) == (4,)
    assert held(0, 2, 4, 6, 8) == (2, 6)
    # each label on a slice of its own: nothing can be reached from elsewhere
    assert planned(disc, {2: truth[2], 6: 2 * truth[6]}).held_back == ()


def test_only_the_labels_that_are_asked_for(disc):
    _image, truth = disc
    plan = planned(disc, {2: truth[2], 6: 2 * truth[6]}, labels=[2])
    assert list(plan.painted) == [6]


def test_clips_walk_to_the_next_painted_slice_and_not_past_it(disc):
    image, truth = disc
    seen = set()
    planes = torch.from_numpy(image / 255).float()[:, None].expand(-1, 3, -1, -1)

    def plane(k):
        seen.add(k)
        return planes[k]

    between = {k: truth[k] for k in range(9) if k not in PAINTED}
    clips = PaintedClips(plane, {k: truth[k] for k in PAINTED}, between, (1, 1), 32, "zscore")
    rng = np.random.default_rng(0)
    for _ in range(40):
        seen.clear()
        batch = clips.batch(1, rng)
        assert batch.frames.shape == (1, 4, 3, 32, 32)
        assert batch.mask[0, 0].sum() > 6
        assert any(k in PAINTED for k in seen)
        assert sum(min(seen) < k < max(seen) for k in PAINTED) == 0
        torch.testing.assert_close(
            batch.frames.mean((-2, -1)), torch.zeros(1, 4, 3), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("objects", ["a corner", "an edge", "specks far apart"])
def test_clips_begin_with_what_is_painted(objects):
    painted = np.zeros((160, 160), np.uint8)
    if objects == "specks far apart":
        painted[2, 2] = painted[150, 150] = 1  # of the size of no sample
    else:
        painted[:6, 40 * (objects == "an edge") :][:, :7] = 1
    planes = torch.rand(3, *painted.shape, generator=torch.Generator().manual_seed(0))
    clips = PaintedClips(lambda k: planes, {4: painted}, {}, (1, 1), 32, "zscore", 2)
    rng = np.random.default_rng(0)
    assert all(clips.moving(rng)[1][0].any() for _ in range(40))
    assert all(clips.batch(1, rng).mask[0, 0].any() for _ in range(10))


@pytest.mark.parametrize("colour", [False, True])
def test_clips_are_checked_as_the_image_is_run(disc, monkeypatch, colour):
    """In grey or in colours, which have windows of other sizes."""
    image, truth = disc
    pixels, seen = np.stack([image] * 3, -1) if colour else image, []

    def noted(image, prompts, *, channels_last, **options):
        seen.append((image.ndim, channels_last))
        return []

    monkeypatch.setattr(check, "propagate", noted)
    plan = planned((pixels, truth), {4: truth[4]}, channels_last=colour)
    plan.score(tiny_model(), threading.Event())
    assert set(seen) == {(4, True) if colour else (3, False)}


def test_a_line_in_clips_is_a_prompt_as_it_is_in_a_run():
    """A line of one pixel fills no sample of its window by half."""
    line = np.zeros((600, 600), np.uint8)
    line[300, 50:550] = 1
    planes = torch.rand(3, 600, 600, generator=torch.Generator().manual_seed(0))
    clips = PaintedClips(lambda k: planes, {0: line}, {}, (1, 1), 96, "zscore")
    rng = np.random.default_rng(0)
    masks = torch.cat([clips.batch(1, rng).mask[0] for _ in range(5)])
    # windows differ in how much of it they show, and how large
    samples = masks.sum((-2, -1))
    assert samples.min() > 4
    assert samples.max() < 96


def test_thin_objects_are_looked_at_as_finely_as_in_a_run():
    y, x = np.indices((160, 160)) - 80
    ring = (y**2 + x**2 < 40**2) & (y**2 + x**2 > 37**2)
    painted = np.repeat((ring + 2 * (y**2 + x**2 < 15**2))[None], 3, 0).astype(np.uint8)
    image = (60 + 90 * (painted > 0) + np.random.default_rng(0).normal(0, 4, painted.shape)).clip(0)
    model, prompts = tiny_model(), {k: painted[k] for k in (0, 2)}
    clips = planned((image, painted), prompts).clips(model, all_painted=True)
    assert {(1, 0): 128, (2, 0): 64}.items() <= clips.sizes.items()
    rng = np.random.default_rng(0)
    shapes = {clips.batch(4, rng).mask.shape for _ in range(8)}
    assert shapes == {(1, 4, 128, 128), (4, 4, 64, 64)}, "a step takes no longer"
    result = adapted((image, painted), prompts, model, seconds=0.5, labels=[1])
    assert len(result.losses) > 1
    assert np.isfinite(result.losses).all()


def test_contrast_is_that_of_the_run(disc):
    image, truth = disc
    around = np.zeros((9, 300, 300), np.float32)  # nothing, but for some voxels
    around[:, 20:68, 20:68] = image
    around[:, 100, :150] = 5000
    painted = np.zeros(around.shape, np.uint8)
    painted[:, 20:68, 20:68] = truth
    painted[2, 200:210, 200:210] = 7  # of somebody else
    prompts = {k: painted[k] for k in (2, 6)}
    plan = planned((around, painted), prompts, labels=[1])
    assert plan.limits == intensity_window(Sweep(around), prompts, None, prompts)
    assert plan.limits != intensity_window(Sweep(around), prompts, None)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "60"])
def test_time_is_positive(disc, prompts, seconds):
    with pytest.raises(PromptError, match="no time to learn"):
        adapted(disc, prompts, tiny_model(), seconds=seconds)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"labels": []}, "No label was chosen"), ({"cancel": 5}, "is_set.* not 5")],
)
def test_what_cannot_be_learned_or_stopped_is_one_sentence(disc, prompts, options, words):
    with pytest.raises(PromptError, match=words):
        adapted(disc, prompts, tiny_model(), **options)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_learns_in_programs_that_do_not(disc, prompts, base_file, mode):
    expected = adapted(disc, prompts, load_model(base_file, device="cpu"), seconds=1.0).losses
    assert expected
    for given in (base_file, load_model(base_file, device="cpu")):
        with mode():
            found = adapted(disc, prompts, given, seconds=1.0)
            assert not torch.is_grad_enabled()
        assert found.losses == expected
    with mode():
        made_there = load_model(base_file, device="cpu")
    assert adapted(disc, prompts, made_there, seconds=1.0).losses == expected


def test_a_network_is_adapted_where_it_is(disc, prompts):
    with pytest.raises(DeviceError, match="'toaster' is unknown"):
        adapted(disc, prompts, tiny_model(), device="toaster")


def test_what_propagate_refuses_is_refused(disc):
    with pytest.raises(PromptError, match="Nothing is painted"):
        adapted(disc, {4: np.zeros((48, 48), int)}, tiny_model(), seconds=1.0)
    with pytest.raises(PromptError, match="three positive numbers"):
        adapted(disc, {4: disc[1][4]}, tiny_model(), seconds=1.0, spacing=(1, 1))


def test_it_writes_nowhere_it_cannot(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        save_adapter({}, tiny_model(), tmp_path / "no" / "mine.safetensors")


def test_a_disk_that_went_away_is_one_sentence(tmp_path, monkeypatch):
    def refuse(path, *more, **others):
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("write_bytes", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(FileError, match="cannot be written: read-only file system"):
        save_adapter({}, tiny_model(), tmp_path / "mine.safetensors")


class TestCommand:
    @pytest.fixture
    def files(self, tmp_path, disc, base_file, monkeypatch):
        monkeypatch.chdir(tmp_path)
        shutil.copy(base_file, tmp_path)
        write_labels(tmp_path / "image.tif", disc[0])
        painted = np.zeros_like(disc[1])
        painted[[1, 4, 7]] = disc[1][[1, 4, 7]]
        write_labels(tmp_path / "labels.tif", painted)
        return tmp_path

    def run(self, *more, out="mine.safetensors"):
        return main(
            ["adapt", "image.tif", "labels.tif", "-o", out, "--model", "base.safetensors",
             "--device", "cpu", *more]
        )  # fmt: skip

    def test_its_file_serves_propagate(self, files, capfd):
        assert self.run("--seconds", "4") == 0
        out, _ = capfd.readouterr()
        assert "held-back J&F" in out
        assert (files / "mine.safetensors").is_file()
        code = main(
            ["propagate", "image.tif", "labels.tif", "-o", "out.tif", "--model",
             "base.safetensors", "--adapter", "mine.safetensors", "--device", "cpu"]
        )  # fmt: skip
        assert code == 0
        assert (files / "out.tif").is_file()

    def test_channels_of_a_time_point(self, files, capfd, disc, monkeypatch):
        image, _ = disc
        pixels = np.zeros((2, 3, *image.shape), image.dtype)
        pixels[1, 0], pixels[1, 2] = image, 255 - image
        series = pixels.transpose(0, 2, 1, 3, 4)
        tifffile.imwrite(files / "image.tif", series, imagej=True, metadata={"axes": "TZCYX"})
        tune, seen = imos_core.adapt, []

        def adapt(image, prompts, **options):
            seen.append((image, options))
            return tune(image, prompts, **options)

        monkeypatch.setitem(vars(imos_core), "adapt", adapt)
        assert self.run("--time", "1", "--channels", "0,2", "--seconds", "2") == 0
        ((shown, options),) = seen
        assert (shown.shape, options["contrast"]) == ((*image.shape, 3), (0.0, 1.0))
        plane = shown[4]
        assert np.corrcoef(plane[..., 0].ravel(), image[4].ravel())[0, 1] > 0.99
        np.testing.assert_allclose(plane[..., 0] + plane[..., 1], 1, atol=1e-5)

    @pytest.mark.parametrize(
        ("out", "words"),
        [
            ("mine.tif", "end it with .safetensors"),
            ("gone/mine.safetensors", "does not exist"),
        ],
    )
    def test_a_bad_name_is_one_line(self, files, capfd, out, words):
        assert self.run("--seconds", "1", out=out) == 2
        error = capfd.readouterr().err
        assert error.startswith("imos adapt: ")
        assert words in error
        assert error.count("\n") == 1

    def test_a_folder_that_may_not_be_written_is_seen_first(self, files, capfd, monkeypatch):
        monkeypatch.setattr(io.os, "access", lambda path, mode: False)
        monkeypatch.setitem(vars(imos_core), "adapt", None)
        assert self.run(out=str(files / "mine.safetensors")) == 2
        error = capfd.readouterr().err
        assert "may not be written: choose another" in error
        assert error.count("\n") == 1

    def test_nothing_painted_is_one_line(self, files, capfd, disc):
        write_labels(files / "labels.tif", np.zeros_like(disc[1]))
        assert self.run() == 2
        assert "paint at least one" in capfd.readouterr().err
        assert not (files / "mine.safetensors").exists()
