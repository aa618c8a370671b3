"""Propagator: when it segments, memorises and updates, on a tiny network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imos_core.config import MemoryConfig, ModelConfig
from imos_core.errors import PromptError
from imos_core.model import IMOS
from imos_core.propagator import Propagator

TINY = ModelConfig(
    name="tiny",
    query_planes=(4, 4, 8),
    query_depths=(1, 1, 1),
    expansion=2,
    stem_channels=4,
    value_planes=(4, 4, 8),
    value_depths=(1, 1, 1),
    key_dim=6,
    value_dim=8,
    hidden_dim=4,
    decoder_channels=(8, 8, 4),
    gate_reduction=4,
    guide_channels=4,
)
OFTEN = MemoryConfig(2, 2, 4, num_prototypes=4, max_long_term_tokens=10, top_k=4)
TOKENS = 4  # of a 32 x 32 frame


@pytest.fixture(params=["plain", "guided"])
def model(request) -> IMOS:
    guided = request.param == "guided"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = replace(TINY, guided=True, memory_stride=8) if guided else TINY
        return IMOS(config).requires_grad_(False)


@pytest.fixture
def plain() -> IMOS:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return IMOS(TINY).requires_grad_(False)


def frames(count: int, height: int = 32, width: int = 32, batch: int | None = None):
    generator = torch.Generator().manual_seed(7)
    shape = (count, 3, height, width) if batch is None else (count, batch, 3, height, width)
    return torch.randn(shape, generator=generator)


def masks(objects: int, height: int = 32, width: int = 32) -> torch.Tensor:
    """Vertical stripes, background at the right."""
    labels = torch.arange(width) * (objects + 1) // width + 1
    stripes = labels.expand(height, -1) == torch.arange(1, objects + 1)[:, None, None]
    return stripes.float()


def test_probabilities_sum_to_one_and_the_given_masks_come_back(model):
    propagator = Propagator(model, OFTEN)
    video, given = frames(6), masks(2)
    first = propagator.step(video[0], given)
    assert torch.equal(first.argmax(0) == 1, given[0] > 0)
    for frame in video[1:]:
        prob = propagator.step(frame)
        assert prob.shape == (3, 32, 32)
        assert prob.dtype == torch.float32
        torch.testing.assert_close(prob.sum(0), torch.ones(32, 32))


@given(st.integers(17, 50), st.integers(17, 50))
@settings(max_examples=8, deadline=None)
def test_any_size_is_padded_and_cropped_back(height, width):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = IMOS(TINY)
    propagator = Propagator(model)
    given = masks(1, height, width)
    video = frames(2, height, width)
    assert torch.equal(propagator.step(video[0], given).argmax(0) == 1, given[0] > 0)
    assert propagator.step(video[1]).shape == (2, height, width)


def test_padding_puts_the_odd_pixel_after(plain):
    propagator = Propagator(plain)
    inner = torch.ones(1, 1, 29, 16)
    padded = propagator._padded(inner)
    assert padded.shape == (1, 1, 32, 16)
    assert padded[0, 0, :, 0].nonzero().flatten().tolist() == list(range(1, 30))
    assert torch.equal(propagator._cropped(padded, inner), inner)


def test_every_rth_frame_is_memorised_but_not_the_last(plain):
    propagator = Propagator(plain, OFTEN)
    sizes = []
    for t, frame in enumerate(frames(7)):
        propagator.step(frame, masks(1) if t == 0 else None, end=t == 6)
        sizes.append(propagator.memory.sizes.working // TOKENS)
    assert sizes == [1, 1, 2, 2, 3, 3, 3]


def test_memorising_refreshes_the_sensory_memory_instead_of_decoding(plain):
    """Tied mode: the reference gives memory frames the deep update only."""
    calls = []
    decode, encode_value = plain.decode, plain.encode_value
    plain.decode = lambda *a, update_hidden, **k: (
        calls.append(("decode", update_hidden)),
        decode(*a, update_hidden=update_hidden, **k),
    )[1]
    plain.encode_value = lambda *a, deep_update, **k: (
        calls.append(("encode", deep_update)),
        encode_value(*a, deep_update=deep_update, **k),
    )[1]
    propagator = Propagator(plain, OFTEN)
    video = frames(4)
    propagator.step(video[0], masks(1))
    propagator.step(video[1])
    propagator.step(video[2])
    propagator.step(video[3], end=True)
    expected = [("encode", True), ("decode", True), ("decode", False), ("encode", True)]
    assert calls == [*expected, ("decode", False)]


def test_deep_updates_of_their_own_rhythm_come_in_addition(plain):
    calls = []
    encode_value = plain.encode_value
    plain.encode_value = lambda *a, deep_update, **k: (
        calls.append(deep_update),
        encode_value(*a, deep_update=deep_update, **k),
    )[1]
    propagator = Propagator(plain, replace(OFTEN, deep_update_every=3))
    for t, frame in enumerate(frames(9)):
        propagator.step(frame, masks(1) if t == 0 else None)
    assert calls == [True, False, True, False, True]  # frames 0, 2, 4, 6, 8


def test_memorize_and_segment_do_what_step_does(model):
    """Several objects; `step` aggregates given masks, which changes them by 1e-7."""
    video, given = frames(6), masks(2)
    stepper, speaker = Propagator(model, OFTEN), Propagator(model, OFTEN)
    first = stepper.step(video[0], given)
    speaker.memorize(video[0], first[1:])
    for frame in video[1:]:
        assert torch.equal(stepper.step(frame), speaker.segment(frame))
    assert stepper.memory.sizes == speaker.memory.sizes


def test_the_sensory_memory_starts_anew_from_an_anchor(plain):
    video = frames(4)
    fresh, used = Propagator(plain), Propagator(plain)
    for frame in video[:3]:
        used.memorize(frame, masks(1))
    for propagator in (fresh, used):
        propagator.memorize(video[3], masks(1))
    assert torch.equal(used.memory.sensory.hidden, fresh.memory.sensory.hidden)


def test_anchors_are_permanent(plain):
    propagator = Propagator(plain, OFTEN)
    video = frames(40)
    for frame in video[:3]:
        propagator.memorize(frame, masks(1))
    anchors = propagator.memory.working.tokens.key.clone()
    assert anchors.shape[2] == 3 * TOKENS
    for frame in video[3:]:
        propagator.segment(frame)
    assert torch.equal(propagator.memory.working.tokens.key[..., : 3 * TOKENS], anchors)
    assert propagator.memory.sizes.long_term == 10


def test_a_given_mask_replaces_the_prediction_or_one_object_of_it(plain):
    video = frames(2)
    predicting, merging = Propagator(plain), Propagator(plain)
    for propagator in (predicting, merging):
        propagator.step(video[0], masks(2))
    prediction = predicting.step(video[1])
    late = torch.zeros(3, 32, 32)
    late[2, :8] = 1
    merged = merging.step(video[1], late, [3])
    assert merged.shape[0] == 4
    assert (merged.argmax(0)[:8] == 3).all()
    assert torch.equal(merged.argmax(0)[8:], prediction.argmax(0)[8:])
    assert prediction[1:, :8].min() > 1e-3
    assert merged[1:3, :8].max() < 1e-3, "what is painted belongs to one object only"
    replaced = Propagator(plain)
    replaced.step(video[0], masks(2))
    assert not replaced.step(video[1], late).argmax(0)[8:].any()


def test_objects_may_join_late(model):
    propagator = Propagator(model, OFTEN)
    video = frames(12)
    propagator.step(video[0], masks(1))
    for t in range(1, 12):
        late = None
        if t == 5:
            late = torch.zeros(2, 32, 32)
            late[1, 20:, 20:] = 1
        prob = propagator.step(video[t], late, None if late is None else [2])
        assert prob.shape[0] == (2 if t < 5 else 3)
        assert prob.isfinite().all()
    assert propagator.objects == 2
    assert propagator.memory.sensory.objects == 2


def test_a_batch_is_independent_sequences(model):
    video = frames(8, batch=2)
    given = torch.stack([masks(1), masks(1).flip(-1)])
    together = Propagator(model, OFTEN)
    alone = [Propagator(model, OFTEN) for _ in range(2)]
    for t in range(8):
        prob = together.step(video[t], given if t == 0 else None)
        for row, propagator in enumerate(alone):
            own = propagator.step(video[t, row], given[row] if t == 0 else None)
            torch.testing.assert_close(prob[row], own, rtol=1e-4, atol=1e-5)


def test_select_goes_on_with_some_sequences(model):
    video = frames(6, batch=3)
    given = torch.stack([masks(1), masks(1).flip(-1), masks(1).flip(-2)])
    all_rows, few_rows = Propagator(model, OFTEN), Propagator(model, OFTEN)
    rows = torch.tensor([2, 1])
    for t in range(3):
        all_rows.step(video[t], given if t == 0 else None)
        few_rows.step(video[t, rows], given[rows] if t == 0 else None)
    all_rows.select(rows)
    for t in range(3, 6):
        expected = few_rows.step(video[t, rows])
        torch.testing.assert_close(all_rows.step(video[t, rows]), expected, rtol=1e-4, atol=1e-5)


def test_the_guide_is_the_frame_before():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = IMOS(replace(TINY, guided=True))
    seen = []
    decode = model.decode
    model.decode = lambda *a, guide, **k: (seen.append(guide), decode(*a, guide=guide, **k))[1]
    propagator = Propagator(model)
    video = frames(3)
    before = propagator.step(video[0], masks(2))
    for t in (1, 2):
        after = propagator.step(video[t])
        guide = seen[-1]
        assert torch.equal(guide.previous_frame[0], video[t - 1])
        assert torch.equal(guide.frame[0], video[t])
        assert torch.equal(guide.previous_mask[0], before[1:])
        torch.testing.assert_close(guide.previous_others[0], before[1:].flip(0))
        before = after


def test_clear_starts_a_new_sequence(model):
    video, given = frames(7), masks(1)
    propagator = Propagator(model, OFTEN)

    def run() -> list[torch.Tensor]:
        return [propagator.step(f, given if t == 0 else None) for t, f in enumerate(video)]

    first = run()
    propagator.clear()
    assert propagator.objects == 0
    for ours, theirs in zip(run(), first, strict=True):
        assert torch.equal(ours, theirs)


def test_memory_is_constant_however_long_the_sequence(model):
    propagator = Propagator(model, replace(OFTEN, memorize_every=1))
    sizes = set()
    generator = torch.Generator().manual_seed(1)
    propagator.step(torch.randn(3, 32, 32, generator=generator), masks(1))
    for t in range(60):
        propagator.step(torch.randn(3, 32, 32, generator=generator))
        if t > 20:
            sizes.add(propagator.memory.sizes)
    assert len(sizes) == 2  # before and after a consolidation
    assert {size.long_term for size in sizes} == {10}


@pytest.mark.parametrize("verb", ["step", "segment"])
def test_masks_come_first(plain, verb):
    with pytest.raises(PromptError, match="first frame"):
        getattr(Propagator(plain), verb)(frames(1)[0])


def test_masks_must_fit_the_frame_and_name_all_objects(plain):
    propagator = Propagator(plain)
    frame = frames(1)[0]
    with pytest.raises(PromptError, match="same height and width"):
        propagator.step(frame, masks(1, 32, 33))
    with pytest.raises(PromptError, match="same height and width"):
        propagator.step(frame, masks(1)[0])
    for scale in (255, float("nan")):
        with pytest.raises(PromptError, match="from 0 to 1"):
            propagator.memorize(frame, masks(1) * scale)
    propagator.step(frame, masks(2))
    for wrong in (frame[0], frame[:2], frame[None, None], (255 * frame).byte()):
        with pytest.raises(PromptError, match=r"A frame is \(3, H, W\)"):
            propagator.segment(wrong)
        with pytest.raises(PromptError, match=r"A frame is \(3, H, W\)"):
            Propagator(propagator.model).memorize(wrong, masks(1))
    with pytest.raises(PromptError, match="does not follow"):
        propagator.segment(torch.zeros(3, 64, 32))
    with pytest.raises(PromptError, match="does not follow"):
        propagator.segment(torch.zeros(2, *frame.shape))
    with pytest.raises(PromptError, match="all 2 objects"):
        propagator.memorize(frame, masks(1))


REFUSED = {
    "masks of fewer sequences": (lambda p, x, m: p.memorize(x, m[:1]), "height and width, and B"),
    "others of fewer sequences": (lambda p, x, m: p.memorize(x, m, others=m[:1]), "and B"),
    "others of fewer objects": (lambda p, x, m: p.memorize(x, m, others=m[:, :1]), "2 objects"),
    "one sequence": (lambda p, x, m: p.segment(x[0]), "does not follow"),
    "no sequences": (lambda p, x, m: p.segment(x[:0]), r"A frame is \(3, H, W\)"),
    "other rows, padded alike": (lambda p, x, m: p.segment(x[..., 1:, :]), "does not follow"),
    "float64": (lambda p, x, m: p.segment(x.double()), r"to\('cpu', torch.float32\)"),
    "bfloat16": (lambda p, x, m: p.memorize(x.bfloat16(), m), "is torch.bfloat16 on cpu"),
    "another device": (lambda p, x, m: p.segment(x.to("meta")), "on meta, but the network"),
    "masks elsewhere": (lambda p, x, m: p.memorize(x, m.to("meta")), "Masks are on meta"),
    "an array": (lambda p, x, m: p.segment(x.numpy()), "not as ndarray"),
    "masks in an array": (lambda p, x, m: p.memorize(x, m.numpy()), "not as ndarray"),
    "object 7": (lambda p, x, m: p.step(x, m, valid=[1, 7]), r"2 objects, so \[1, 7\] cannot"),
    "object 0": (lambda p, x, m: p.step(x, m, valid=[0]), "count from 1"),
    "objects of no masks": (lambda p, x, m: p.step(x, valid=[1, 2]), "of 0 objects"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_is_refused_changes_nothing(plain, wrong):
    video = frames(3, 30, 32, batch=2)
    given = masks(2, 30, 32).expand(2, -1, -1, -1)
    propagators = [Propagator(plain, OFTEN) for _ in range(2)]
    for propagator in propagators:
        propagator.memorize(video[0], given)
        propagator.segment(video[1])
    expected = propagators[0].segment(video[2])
    call, words = REFUSED[wrong]
    with pytest.raises(PromptError, match=words):
        call(propagators[1], video[2], given)
    assert torch.equal(propagators[1].segment(video[2]), expected)


def test_a_network_in_another_type_takes_frames_of_it(plain):
    found = Propagator(plain.bfloat16()).step(frames(1)[0].bfloat16(), masks(1))
    assert found.dtype == torch.float32
    with pytest.raises(PromptError, match=r"to\('cpu', torch.bfloat16\)"):
        Propagator(plain).step(frames(1)[0], masks(1))


def test_autocast_takes_any_frame(plain):
    with torch.autocast("cpu", torch.bfloat16):
        assert Propagator(plain).step(frames(1)[0].bfloat16(), masks(1)).isfinite().all()


def test_a_sequence_goes_on_from_its_state(plain):
    video = frames(3, 30, 32)
    before, after = Propagator(plain, OFTEN), Propagator(plain, OFTEN)
    before.memorize(video[0], masks(2, 30, 32))
    after.load_state(before.state(), torch.device("cpu"))
    for frame in video[1:]:
        assert torch.equal(after.segment(frame), before.segment(frame))
