"""Presence: evidence in closed form, what the head hides, and that it can be fitted."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import disc_volume, tiny_model
from torch.nn import functional as F

from imos_core import propagate
from imos_core.evaluation.protocols import TrueSequence
from imos_core.model.presence import EVIDENCE, PresenceHead, _dilated, evidence, look
from imos_core.training import presence, walks
from imos_core.training.presence import fit, gain, side_by_side
from imos_core.training.walks import Judged
from imos_core.weights import ModelInfo, load_model, save_weights


def _disc(radius, size=64):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return torch.from_numpy((y**2 + x**2 <= radius**2).astype(np.float32))[None]


def _look(radius, unit=1.0, bright=0.8, dark=0.2):
    mask = _disc(radius)
    features = torch.stack([mask[0], 1 - mask[0]])[None]
    return look(0.9 * mask, dark + (bright - dark) * mask, features, torch.tensor([unit]))


def _named(values):
    return dict(zip(EVIDENCE, values[0].tolist(), strict=True))


def test_a_disc_is_described():
    looks = _look(10, unit=0.25)
    assert looks.area.item() == pytest.approx(0.25 * math.pi * 100, rel=0.05)
    assert looks.inside.item() == pytest.approx(0.8, abs=1e-3)
    assert looks.contrast.item() == pytest.approx(0.6, abs=1e-3)
    assert looks.mean.item() == pytest.approx(0.9, abs=1e-3)
    assert looks.features[0].tolist() == pytest.approx([1, 0], abs=1e-3)


def test_the_ring_is_a_square_around_every_pixel():
    masks = torch.rand(3, 40, 31, generator=torch.Generator().manual_seed(1)) < 0.01
    wanted = F.max_pool2d(masks.float()[:, None], 13, 1, 6)[:, 0] > 0
    assert torch.equal(_dilated(masks), wanted)


def test_nothing_is_described_too():
    empty = look(
        torch.zeros(1, 16, 16), torch.rand(1, 16, 16), torch.rand(1, 2, 4, 4), torch.ones(1)
    )
    for value in vars(empty).values():
        assert torch.isfinite(value).all()


def test_evidence_compares_sizes():
    small, large = _look(8), _look(16)
    found = _named(
        evidence(small, small, large, large.area, torch.tensor([[5.0, 10.0]]), torch.tensor([1e-6]))
    )
    assert found["travel over the prompt's radius"] == pytest.approx(math.log(10 / 16), abs=0.05)
    assert found["area against the prompt"] == pytest.approx(math.log(1 / 4), abs=0.1)
    assert found["area against the slice before"] == pytest.approx(0, abs=1e-6)
    assert found["features against the prompt"] == pytest.approx(1, abs=1e-3)
    assert found["contrast against the prompt"] == pytest.approx(0, abs=1e-3)
    assert found["spacing is known"] == 1


def test_units_cancel():
    """Millimetres or micrometres: the same evidence."""
    one = evidence(
        _look(9), _look(10), _look(12), _look(12).area, torch.tensor([[3.0, 6.0]]), torch.ones(1)
    )
    other = evidence(
        _look(9, 100.0),
        _look(10, 100.0),
        _look(12, 100.0),
        _look(12, 100.0).area,
        torch.tensor([[3.0, 60.0]]),
        torch.full((1,), 100.0),
    )
    assert torch.allclose(one, other, atol=1e-4)


def test_unknown_spacing_is_said():
    found = _named(
        evidence(
            _look(9), _look(9), _look(9), _look(9).area, torch.tensor([[3.0, -3.0]]), torch.ones(1)
        )
    )
    assert found["spacing is known"] == 0
    assert math.isfinite(found["travel over the prompt's radius"])


class _Always(torch.nn.Module):
    def __init__(self, logit):
        super().__init__()
        self.logit = logit
        self.seen = []

    def start(self, count):
        return torch.zeros(count, 1)

    def forward(self, found, course):
        self.seen.append(found)
        return torch.full((len(found),), self.logit), course

    def __deepcopy__(self, memo):
        return self  # propagation runs on a copy of the network


def _segment(head, prompts=(4,), **options):
    image, labels = disc_volume(9, 48)
    model = tiny_model()
    model.presence = head
    pieces = propagate(image, {k: labels[k] for k in prompts}, model=model, **options)
    return {p.index: p.labels for p in pieces}


def test_what_has_ended_is_not_shown():
    untouched = _segment(None)
    assert any(v.any() for k, v in untouched.items() if k != 4)
    hidden = _segment(_Always(-20.0))
    assert not any(v.any() for k, v in hidden.items() if k != 4)
    assert np.array_equal(hidden[4], untouched[4])


def test_what_is_present_stays_as_it_is():
    untouched, judged = _segment(None), _segment(_Always(3.0))
    for k, labels in untouched.items():
        assert np.array_equal(labels, judged[k])


def test_between_painted_slices_nothing_ends():
    untouched, judged = _segment(None, (2, 6)), _segment(_Always(-20.0), (2, 6))
    for k in (3, 4, 5):
        assert np.array_equal(untouched[k], judged[k])
    assert not judged[0].any()
    assert not judged[8].any()


def test_evidence_is_finite_whatever_the_mask_does():
    head = _Always(3.0)
    _segment(head, spacing=(2.0, 0.5, 0.5))
    found = torch.cat(head.seen)
    assert found.shape[1] == len(EVIDENCE)
    assert torch.isfinite(found).all()
    assert (found[:, EVIDENCE.index("spacing is known")] == 1).all()


def _head(seed, hidden=5):
    torch.manual_seed(seed)
    head = PresenceHead(hidden)
    for layer in (head.inner, head.course, head.outer):
        layer.reset_parameters()
    head.scale.fill_(0.7)
    return head


def test_slice_by_slice_is_as_all_at_once():
    head, found = _head(0), torch.randn(3, 7, len(EVIDENCE))
    together, last = head(found, head.start(3))
    course, alone = head.start(3), []
    for t in range(7):
        logits, course = head(found[:, t], course)
        alone.append(logits)
    torch.testing.assert_close(torch.stack(alone, 1), together)
    torch.testing.assert_close(course, last)


def test_heads_side_by_side_say_the_mean_of_what_each_says():
    """Each scales evidence in its own way."""
    heads, found = [_head(1, 5), _head(2, 5), _head(3, 4)], torch.randn(2, 9, len(EVIDENCE))
    for number, head in enumerate(heads):
        head.centre.fill_(0.1 * number)
        head.scale.fill_(1 + 0.2 * number)
    one = side_by_side(heads)
    mean = torch.stack([head(found, head.start(2))[0] for head in heads]).mean(0)
    torch.testing.assert_close(one(found, one.start(2))[0], mean)


def test_what_was_seen_on_the_way_counts():
    head, found = _head(4), torch.randn(1, 6, len(EVIDENCE))
    other = found.clone()
    other[:, 2] += 3
    logits, changed = (head(x, head.start(1))[0] for x in (found, other))
    assert torch.equal(logits[:, :2], changed[:, :2])
    assert not torch.isclose(logits[:, 3:], changed[:, 3:]).any()


def _judged(found, jaccard, journeys=40):
    count = len(found)
    return Judged(
        found,
        jaccard,
        torch.arange(count) * journeys // count % 4,
        torch.arange(count) * journeys // count % 2 > 0,
        torch.arange(count) * journeys // count,
    )


def test_a_head_learns_where_objects_end():
    torch.manual_seed(0)
    found = torch.randn(800, len(EVIDENCE))
    present = found[:, 1] < 0.3
    jaccard = torch.where(present, 0.8, -1.0)
    judged = _judged(found, jaccard)
    before, after = gain(fit(judged, steps=250, members=2), judged)
    assert before == pytest.approx(float(0.8 * present.float().mean()))
    assert after > before + 0.2


def test_members_know_nothing_of_each_other():
    judged = _judged(torch.randn(200, len(EVIDENCE)), torch.rand(200))
    head = fit(judged, steps=3, members=2)
    found = torch.randn(1, 5, len(EVIDENCE))
    _, before, _ = head.remember(found, head.start(1))
    with torch.no_grad():
        head.inner.bias[:36] += 1  # of the first one
    _, after, _ = head.remember(found, head.start(1))
    assert not torch.isclose(before[..., :36], after[..., :36]).any()
    torch.testing.assert_close(before[..., 36:], after[..., 36:])


def test_a_head_remembers_that_an_object_has_ended():
    """The end itself is seen in one slice of a journey; after it, nothing tells any more."""
    torch.manual_seed(0)
    found = 0.3 * torch.randn(60, 20, len(EVIDENCE))
    ends = torch.randint(3, 17, (60,))
    found[torch.arange(60), ends, 4] = -4
    present = torch.arange(20) < ends[:, None]
    judged = _judged(found.flatten(0, 1), torch.where(present, 0.7, -1.0).flatten(), 60)
    _, after = gain(fit(judged, steps=200, members=2), judged)
    perfect = float(torch.where(present, 0.7, 1.0).mean())
    assert after > 0.93 * perfect


def test_a_head_keeps_good_masks_rather_than_hide_them():
    """Evidence that says nothing: hiding would lose more than it gains."""
    judged = _judged(
        torch.randn(400, len(EVIDENCE)), torch.where(torch.arange(400) % 4 > 0, 0.9, -1.0)
    )
    before, after = gain(fit(judged, steps=60, members=2), judged)
    assert after >= before - 0.02
    assert isinstance(fit(judged, steps=1, members=2), PresenceHead)


def test_what_several_saw_is_numbered_through():
    def seen(groups, journeys):
        n = len(groups)
        numbers = torch.tensor(groups, dtype=torch.long), torch.tensor(journeys, dtype=torch.long)
        rest = torch.zeros(n, len(EVIDENCE)), torch.zeros(n)
        return Judged(*rest, numbers[0], torch.zeros(n, dtype=torch.bool), numbers[1])

    parts = [seen([0, 0, 1], [0, 1, 2]), seen([], []), seen([0, 0], [0, 0])]
    whole = Judged.joined(parts)
    assert whole.group.tolist() == [0, 0, 1, 2, 2]
    assert whole.journey.tolist() == [0, 1, 2, 3, 3]
    assert whole.lengths == [1, 1, 1, 2]
    assert Judged.joined([seen([], []), seen([], [])]).lengths == []


def halves(judged):
    """Lengths of the walks through each of two sequences."""
    numbers = [judged.group == group for group in (0, 1)]
    return [judged.select(which).lengths for which in numbers]


def test_masks_that_stay_empty_are_judged_to_the_end(monkeypatch):
    image, labels = disc_volume(12)
    labels[10:] = 0
    monkeypatch.setattr(walks, "_Recorder", _Blind)
    model = tiny_model()
    truth = TrueSequence("disc", "toy", image, labels, (1.0, 1.0, 1.0))
    for _ in range(2):  # of two sequences with one network
        judged = walks.collect(model, truth)
        # eleven slices from the first one, and as many from the largest one both ways
        assert len(judged.evidence) == len(judged.jaccard) == 9 + 11
        assert sum(judged.lengths) == 9 + 11
        assert (judged.jaccard <= 0).all()


class _Blind(walks._Recorder):
    """Takes notes, and finds everything absent."""

    def forward(self, evidence, course):
        noted, course = super().forward(evidence, course)
        return -noted, course


def test_objects_in_parts_are_left_out(monkeypatch):
    """A slice yields a note for each part; whose truth they would have, nobody knows."""
    image, labels = disc_volume(12)
    image, labels = np.hstack([image] * 4), np.hstack([labels] * 4)
    labels[:, 48:144] = 0  # two discs far from each other are one object
    labels[:, 48:96] = 2 * (labels[:, :48] > 0)
    monkeypatch.setattr(walks, "_Recorder", _Blind)
    truth = TrueSequence("discs", "toy", image, labels, (1.0, 1.0, 1.0))
    judged = walks.collect(tiny_model(), truth)
    assert len(judged.evidence) == len(judged.jaccard) == 11 + 11


def test_volumes_of_cubes_are_walked_along_every_axis():
    image, labels = disc_volume(24)
    image, labels = image[:, :40], labels[:, :40]
    even = TrueSequence("disc", "ct", image, labels, (2.0, 2.0, 2.0))
    found = list(walks.cuts(even))
    assert [cut.image.shape for cut in found] == [(24, 40, 48), (40, 24, 48), (48, 24, 40)]
    for axis, cut in enumerate(found):
        for k in (0, 9):
            np.testing.assert_array_equal(cut.image[k], image.take(k, axis))
            np.testing.assert_array_equal(cut.labels[k], labels.take(k, axis))
    # thick slices, or slices of which nothing is known, are walked as they are
    for other in (replace(even, spacing=(4.0, 2.0, 2.0)), replace(even, spacing=(1.0, 1.0, 1.0))):
        assert list(walks.cuts(other)) == [other]


def test_synthetic_volumes_can_be_made_again():
    one, again = (walks.synthetic_sequences("nuclei", 3)[0] for _ in range(2))
    np.testing.assert_array_equal(one.image, again.image)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert one.labels.any()
    assert {walks.synthetic_sequences("nuclei", k)[0].spacing[0] for k in (3, 4)} == {1.0, 2.0}


def test_one_command_fits_it(tmp_path, monkeypatch):
    """Sequences in, weights with another head out; all else of the weights stays."""
    uses = {"a": "open", "b": "open", "c": "research"}
    for name in uses:
        path = tmp_path / "sequences" / "train" / "toy" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        image, labels = disc_volume()
        labels[:2] = 0
        np.savez(path, image=image, labels=labels, spacing=[1.0] * 3)
    entries = [{"name": f"toy/{name}", "use": use} for name, use in uses.items()]
    (tmp_path / "sequences" / "manifest.json").write_text(json.dumps(entries))
    model = tiny_model()
    save_weights(model, tmp_path / "old.safetensors", {"version": "7"})
    judged = []

    def quick(seen):
        judged.append(seen)
        return fit(seen, steps=2, members=2)

    monkeypatch.setattr(presence, "fit", quick)
    arguments = [tmp_path / "old.safetensors", tmp_path / "sequences" / "train", "--synthetic", 0]
    presence.main([*map(str, arguments), "-o", str(tmp_path / "new.safetensors")])
    assert judged[-1].group.unique().tolist() == [0, 1]
    assert (judged[-1].jaccard < 0).any()
    assert ModelInfo("", "", "", tmp_path / "new.safetensors").metadata["version"] == "7"
    new = load_model(tmp_path / "new.safetensors")
    assert new.presence is not None
    assert not torch.equal(new.presence.outer.weight, torch.zeros_like(new.presence.outer.weight))
    for name, value in model.state_dict().items():
        if not name.startswith("presence"):
            torch.testing.assert_close(new.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    alone = judged[-1]
    arguments += ["-o", tmp_path / "both.safetensors", "--also", tmp_path / "new.safetensors"]
    presence.main([*map(str, arguments)])
    # walks of both networks through the same sequences
    assert judged[-1].lengths == [n for half in (0, 1) for n in 2 * halves(alone)[half]]
    assert judged[-1].group.unique().tolist() == [0, 1]
    arguments[-3:] = [tmp_path / "mean.safetensors", "--beside", tmp_path / "new.safetensors"]
    presence.main([*map(str, arguments)])
    mean = load_model(tmp_path / "mean.safetensors").presence
    half = mean.outer.weight.chunk(4, 1)[0]
    torch.testing.assert_close(half, new.presence.outer.weight.chunk(2, 1)[0] / 2)


def test_synthetic_volumes_are_walked_through_beside_sequences(tmp_path, monkeypatch):
    image, labels = disc_volume()
    (tmp_path / "toy").mkdir()
    np.savez(tmp_path / "toy" / "a.npz", image=image, labels=labels)
    save_weights(tiny_model(), tmp_path / "old.safetensors", {"version": "7"})
    judged = []
    monkeypatch.setattr(presence.synthetic, "KINDS", ("nuclei",))
    monkeypatch.setattr(presence, "fit", lambda seen: judged.append(seen) or PresenceHead(4))
    files = [str(tmp_path / "old.safetensors"), str(tmp_path), "-o", str(tmp_path / "new")]
    presence.main([*files, "--synthetic", "1"])
    assert judged[-1].group.unique().tolist() == [0, 1]


def test_the_command_says_what_it_takes_and_what_is_wrong(tmp_path, capsys):
    from imos_core.training import presence

    with pytest.raises(SystemExit, match="0"):
        presence.main(["--help"])
    assert "still shows the object" in capsys.readouterr().out
    missing = [str(tmp_path / "none.safetensors"), str(tmp_path), "-o", str(tmp_path / "new")]
    assert presence.main(missing) == 2
    assert "does not exist" in capsys.readouterr().err
