"""Training: clips, losses, one pass, and a short run whose loss falls."""

from __future__ import annotations

import csv
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY, disc_volume, tiny_model

from imos_core.config import PRESETS
from imos_core.data import batches
from imos_core.data.augment import stain
from imos_core.data.batches import Batch, ClipBatches, sound
from imos_core.data.clips import ClipConfig, draw_clip
from imos_core.data.sources import (
    LabelledVolume,
    SequenceSource,
    StaticSource,
    SyntheticSource,
    sequence_names,
)
from imos_core.errors import FileError, WeightsError
from imos_core.preprocess import normalise
from imos_core.training import run
from imos_core.training.config import read_config
from imos_core.training.log import CsvLog
from imos_core.training.losses import bootstrapped_cross_entropy, dice_loss
from imos_core.training.run import main
from imos_core.training.unroll import training_pass


@pytest.fixture
def volume():
    return LabelledVolume(*disc_volume(12))


def test_clips_start_with_the_object_and_have_one_size(volume):
    rng = np.random.default_rng(0)
    for _ in range(10):
        clip = draw_clip(volume, ClipConfig(frames=4, size=64), rng)
        assert clip is not None
        assert clip.frames.shape == (4, 3, 64, 64)
        assert clip.mask.shape == clip.others.shape == (4, 64, 64)
        assert clip.mask[0].sum() >= 6
        assert set(clip.mask.unique().tolist()) <= {0.0, 1.0}
        torch.testing.assert_close(clip.frames.mean((-2, -1)), torch.zeros(4, 3), atol=1e-4, rtol=0)


def test_a_single_image_becomes_a_moving_clip():
    image, labels = disc_volume(1)
    clip = draw_clip(
        LabelledVolume(image, labels), ClipConfig(frames=4, size=64), np.random.default_rng(3)
    )
    assert clip is not None
    assert (clip.mask[0] != clip.mask[3]).any()


def test_a_volume_without_objects_offers_no_clip(volume):
    empty = LabelledVolume(volume.image, volume.labels * 0)
    assert draw_clip(empty, ClipConfig(), np.random.default_rng(0)) is None


def test_known_other_objects_never_overlap_the_object(volume):
    labels = volume.labels.copy()
    labels[:, :10] = 2
    rng = np.random.default_rng(0)
    for _ in range(10):
        clip = draw_clip(LabelledVolume(volume.image, labels), ClipConfig(size=64), rng)
        assert clip is not None
        assert not (clip.mask * clip.others).any()


def test_staining_keeps_shape_and_grey(volume):
    frames = torch.rand(3, 1, 32, 32).expand(-1, 3, -1, -1)
    for seed in range(20):
        out = stain(frames, np.random.default_rng(seed))
        assert out.shape == frames.shape
        assert out.isfinite().all()
        torch.testing.assert_close(out[:, 0], out[:, 1])


def test_batches_are_repeatable(volume):
    class Always:
        def draw(self, rng):
            return volume

    first, second = (
        next(iter(ClipBatches([(Always(), 1)], ClipConfig(3, 32), 2, seed=5))) for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("worker", [None, SimpleNamespace(id=0, num_workers=1)])
def test_drawing_ends_where_nothing_makes_a_clip(volume, monkeypatch, worker):
    class Empty:
        name = "a folder"

        def draw(self, rng):
            return LabelledVolume(volume.image, np.zeros_like(volume.labels))

    monkeypatch.setattr(batches, "_EMPTY_DRAWS", 20)
    monkeypatch.setattr(batches, "get_worker_info", lambda: worker)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    clips = iter(ClipBatches([(Empty(), 1)], ClipConfig(3, 32), 1, seed=5))
    if worker is not None:  # PyTorch would raise what a process raises as a traceback of it
        clips = iter([next(clips)])
    with pytest.raises(FileError, match=r"^20 draws in a row from a folder made no clip"):
        next(sound(clips))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[", "cannot be read as JSON"),
        ("[]\xe4", "cannot be read as JSON"),
        ("{}", "must be a list"),
        ("[1]", "Entry 0 of .* lacks name and use"),
        ('[{"name": "toy/a", "use": "open"}, {"name": "toy/b"}]', "Entry 1 of .* lacks use"),
    ],
)
def test_a_manifest_says_what_is_wrong_with_it(tmp_path, written, said):
    (tmp_path / "manifest.json").write_text(written, encoding="latin-1")
    with pytest.raises(FileError, match=said):
        sequence_names(tmp_path / "train", ("open",))


def test_sources_read_the_folder_layouts(tmp_path):
    image, labels = disc_volume(3)
    (tmp_path / "seq" / "toy").mkdir(parents=True)
    np.savez(tmp_path / "seq/toy/a.npz", image=image, labels=labels, spacing=np.ones(3))
    (tmp_path / "static" / "toy").mkdir(parents=True)
    Image.fromarray(image[0]).save(tmp_path / "static/toy/a.jpg")
    indexed = Image.fromarray(labels[0].astype(np.uint8), "L").convert("P")
    indexed.putdata(labels[0].ravel().tolist())
    indexed.save(tmp_path / "static/toy/a.png")
    for name in ("seq/toy/._a.npz", "static/toy/._a.jpg"):
        (tmp_path / name).write_bytes(b"what a Mac leaves beside a file")
    rng = np.random.default_rng(0)
    assert SequenceSource(tmp_path / "seq").draw(rng).labels.shape == labels.shape
    np.testing.assert_array_equal(StaticSource(tmp_path / "static").draw(rng).labels[0], labels[0])
    assert SyntheticSource(shape=(8, 32, 32)).draw(rng).labels.any()
    opened = StaticSource(tmp_path / "static")
    (tmp_path / "static/toy/a.png").write_bytes(b"cut short")
    with pytest.raises(FileError, match=r"a.png cannot be read: it is damaged"):
        opened.draw(rng)
    Image.fromarray(labels[0, :-1].astype(np.uint8)).save(tmp_path / "static/toy/a.png")
    with pytest.raises(FileError, match="labels need one integer per pixel"):
        opened.draw(rng)
    Image.fromarray(np.zeros_like(image[0])).save(tmp_path / "static/toy/a.png")
    with pytest.raises(FileError, match=r"No label map in .*static has a label above 0"):
        StaticSource(tmp_path / "static")
    (tmp_path / "static/toy/a.png").unlink()
    with pytest.raises(FileError, match=r"a.png cannot be read: it is missing \(one of 1 "):
        StaticSource(tmp_path / "static")
    with pytest.raises(FileError, match="No training sequences"):
        SequenceSource(tmp_path / "seq", set())
    (tmp_path / "seq/toy/junk.npz").write_text("none")
    with pytest.raises(FileError, match=r"junk\.npz is no readable sequence"):
        SequenceSource(tmp_path / "seq")
    with pytest.raises(FileError, match="No training images"):
        StaticSource(tmp_path)


def test_cross_entropy_narrows_to_the_hardest_pixels():
    logits = torch.zeros(1, 2, 10, 10)
    logits[:, 1, :3, :5] = 5  # 15 pixels wrong by far
    target = torch.zeros(1, 10, 10, dtype=torch.long)
    everywhere, all_pixels = bootstrapped_cross_entropy(logits, target, 0, 10, 20)
    hardest, few = bootstrapped_cross_entropy(logits, target, 21, 10, 20)
    assert (all_pixels, few) == (1.0, 0.15)
    assert float(hardest) == pytest.approx(float(torch.log1p(torch.tensor(5.0).exp())))
    assert float(everywhere) < float(hardest)


def test_dice_of_perfect_and_absent_masks():
    target = torch.zeros(1, 8, 8, dtype=torch.long)
    target[:, 2:6, 2:6] = 1
    perfect = (target == 1).float()[:, None]
    assert float(dice_loss(perfect, target)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(perfect * 0, target)) == pytest.approx(1 - 1 / 17)


def _batch(clips=2, frames=3):
    image, labels = disc_volume(frames, 64)
    sequence = torch.from_numpy(image).float()[:, None].expand(-1, 3, -1, -1) / 255
    mask = torch.from_numpy(labels.astype(np.float32))
    return Batch(
        normalise(sequence, "zscore").expand(clips, -1, -1, -1, -1),
        mask.expand(clips, -1, -1, -1),
        torch.zeros(clips, frames, 64, 64),
    )


def test_a_pass_reaches_every_parameter():
    model = tiny_model().train()
    generator = torch.Generator().manual_seed(1)
    result = training_pass(
        model,
        _batch(frames=4),
        iteration=0,
        warm_up=(10, 20),
        deep_update_probability=1.0,
        generator=generator,
    )
    result.loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None]
    assert silent == []
    assert 0 <= result.jaccard <= 1


def test_between_two_painted_slices_memory_knows_the_far_one():
    model = tiny_model().eval()

    def loss(batch: Batch, enclosed: float) -> float:
        rules = {"iteration": 0, "warm_up": (10, 20), "deep_update_probability": 0.0}
        with torch.no_grad():
            return float(training_pass(model, batch, enclosed=enclosed, **rules).loss)

    batch = _batch(frames=5)
    batch = batch._replace(mask=batch.mask.clone())
    far = batch.mask[:, -1]
    far.zero_()
    alone = loss(Batch(batch.frames[:, :-1], batch.mask[:, :-1], batch.others[:, :-1]), 0)
    # nothing there: the prompt is remembered twice, which says no more than once
    assert loss(batch, 1) == pytest.approx(alone, rel=1e-5)
    far[:, 10:50, 5:40] = 1
    assert loss(batch, 1) != pytest.approx(alone, rel=1e-5)
    # the far slice is no frame that is asked for
    assert loss(batch, 0) > 1.1 * alone


@pytest.fixture
def phase(tmp_path, monkeypatch):
    """Write the file of a phase of a tiny network; return its path."""
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    folder = tmp_path / "seq" / "train" / "toy"
    folder.mkdir(parents=True)
    image, labels = disc_volume(12)
    np.savez(folder / "a.npz", image=image, labels=labels, spacing=np.ones(3))
    manifest = [{"name": "toy/a", "use": "open"}]
    (tmp_path / "seq/manifest.json").write_text(json.dumps(manifest))

    def written(**settings):
        told = {"learning_rate": 2e-4, "steps": 100000, "warm_up_steps": 1, **settings}
        config = tmp_path / "phase.toml"
        config.write_text(
            f'model = "tiny"\nsequences = "{tmp_path}/seq/train"\n'
            "weights = { sequences = 1 }\nframes = 3\nsize = 32\nbatch_size = 1\n"
            "workers = 0\nbfloat16 = false\n"
            + "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items())
        )
        return str(config)

    return written


def test_a_phase_follows_the_clock_and_goes_on_from_its_checkpoint(tmp_path, monkeypatch, phase):
    config = phase()
    ticks = itertools.count(0.0, 0.25)  # a slow machine would not take a step in time
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    weights = main(config, device="cpu", minutes=0.05, output=str(tmp_path / "out"))
    assert 3 <= next(ticks) < 6
    assert weights.exists()
    with (tmp_path / "out/log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(float(row["seconds"]) <= 3 for row in rows)
    checkpoint = tmp_path / "out/checkpoint.pt"
    steps = torch.load(checkpoint, weights_only=True)["step"]
    assert steps == len(rows)
    main(
        config,
        resume=str(checkpoint),
        device="cpu",
        minutes=0.1,
        output=str(tmp_path / "out"),
    )
    assert torch.load(checkpoint, weights_only=True)["step"] > steps


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(tmp_path, phase):
    out = tmp_path / "out"
    main(phase(steps=1), device="cpu", output=str(out))
    before = {path.name: path.read_bytes() for path in out.glob("*[!v]")}
    resume = str(out / "checkpoint.pt")
    with pytest.raises(WeightsError, match=r"not finite.*train anew with a lower learning rate"):
        main(phase(steps=4, learning_rate=1e30), resume=resume, device="cpu", output=str(out))
    assert {path.name: path.read_bytes() for path in out.glob("*[!v]")} == before
    assert set(before) == {"checkpoint.pt", "weights.safetensors"}


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_numbers_that_are_not_finite_reach_no_weights_and_no_norms(
    tmp_path, monkeypatch, phase, where
):
    out = tmp_path / "out"
    main(phase(steps=1), device="cpu", output=str(out))
    checkpoint = out / "checkpoint.pt"
    before = torch.load(checkpoint, weights_only=True)["model"]

    def broken(model, batch, **options):
        if where == "forward":
            return training_pass(model, batch._replace(frames=batch.frames * torch.nan), **options)
        result = training_pass(model, batch, **options)
        # a finite number whose derivative is infinite
        return result._replace(loss=result.loss + (result.loss - result.loss.detach()).sqrt())

    monkeypatch.setattr(run, "training_pass", broken)
    norms = {"train_norms": where == "forward"}
    main(phase(steps=3, **norms), resume=str(checkpoint), device="cpu", output=str(out))
    after = torch.load(checkpoint, weights_only=True)
    assert after["step"] == 3
    for name, value in after["model"].items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(("step", "cut"), [(None, b"2,0."), (2, b"1")])
def test_a_line_that_a_kill_has_cut_is_dropped(tmp_path, step, cut):
    path = tmp_path / "log.csv"
    path.write_bytes(b"step,loss\r\n0,0.5\r\n1,0.4\r\n" + cut)
    with CsvLog(path, ("step", "loss"), step) as log:
        log.write(2, 0.25)
    with path.open(newline="") as file:
        assert list(csv.reader(file))[1:] == [["0", "0.5"], ["1", "0.4"], ["2", "0.25"]]


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(tmp_path, phase):
    out = tmp_path / "out"
    out.mkdir()
    (out / "log.csv").write_bytes(b"step,seconds,loss,jaccard,rate\r\n0,1,2,3,4\r\n1,1,2,3,4\r\n")
    main(phase(steps=1), device="cpu", output=str(out))
    with (out / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0"]


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path, phase, there):
    out = tmp_path / "runs" / "out"
    if there:
        out.mkdir(parents=True)
    with pytest.raises(FileError):
        main(phase(modalities=["gone"]), device="cpu", output=str(out))
    assert (tmp_path / "runs").exists() == out.exists() == there


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("frames = [", "no readable"),
        ("epochs = 3", "unknown settings"),
        ("size = 97", "size is a multiple of 16"),
        ("size = 0", "size is a multiple of 16"),
        ('steps = "four"', "steps is a whole number, not 'four'"),
        ("steps = 4.5", "steps is a whole number"),
        ("frames = true", "frames is a whole number"),
        ("adapters = 1", "adapters is true or false"),
        ("static = 3", "static is text"),
        ('minutes = "1"', "minutes is a number"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path, text, words):
    path = tmp_path / "phase.toml"
    path.write_text(text)
    with pytest.raises(FileError, match=r"phase\.toml") as caught:
        read_config(path)
    assert words in str(caught.value)
