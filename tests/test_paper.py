"""What the paper says of the method (iMOS, arXiv 2309.17264), a test for each claim.

Each module has tests of its own; these are for whoever has read the paper and wants to see that
this is what it describes. The memory is that of XMem (arXiv 2207.07115), which it takes over.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY_R50, disc_volume, tiny_model
from torch import Tensor

from imos_core import MemoryConfig, affinity, metrics, propagate
from imos_core.config import IMOS_R50
from imos_core.memory import ThreeTierMemory
from imos_core.model import IMOS, soft_aggregate
from imos_core.model.adapter import ConvAdapter, adapter_state_dict, freeze_encoders
from imos_core.model.blocks import gated_update
from imos_core.training.losses import bootstrapped_cross_entropy, dice_loss

FRAME = 6
"""Positions of a frame in the tests of the memory."""
SMALL = MemoryConfig(
    min_working_frames=2,
    max_working_frames=4,
    num_prototypes=3,
    max_long_term_tokens=10,
    top_k=4,
)


def remember(memory: ThreeTierMemory, frames: int) -> None:
    """Let frames of random features be read by, and written to, a memory of one object."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(1, *shape, 2, 3, generator=generator)

    for index in range(frames):
        if index:
            memory.read(draw(4), draw(4))
        memory.write(draw(4), 1 + draw(1), draw(1, 5), draw(4), [1])


# ---- section 3.1: one annotated frame, the whole sequence ----


@pytest.mark.parametrize("annotated", [0, 4, 8])
def test_one_annotated_frame_segments_the_sequence_in_both_directions(annotated):
    image, labels = disc_volume(9)
    found = list(propagate(image, {annotated: labels[annotated]}, model=tiny_model()))
    assert sorted(s.index for s in found) == list(range(9))
    for each in found:
        side = np.sign(each.index - annotated)
        assert each.source == {-1: "backward", 0: "anchor", 1: "forward"}[side]
    np.testing.assert_array_equal(found[0].labels, labels[annotated])


@pytest.mark.parametrize("shape", [(5, 48, 48), (5, 48, 48, 3)], ids=["slices", "colour video"])
def test_slices_of_a_volume_and_frames_of_a_video_are_the_same_to_it(shape):
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    mask = np.zeros(shape[1:3], np.uint8)
    mask[10:30, 10:30] = 1
    colour = len(shape) == 4
    found = propagate(image, {0: mask}, model=tiny_model(), channels_last=colour)
    assert [s.labels.shape for s in found] == [(48, 48)] * 5


# ---- section 3.2: sensory, working and long-term memory ----


@pytest.mark.parametrize(
    ("forget", "update", "expected"),
    [(1, 0, 0.5), (0, 0, 0.0), (1, 1, np.tanh(2.0))],
    ids=["keeps", "forgets", "takes the new"],
)
def test_sensory_memory_has_gates_of_a_recurrent_unit(forget, update, expected):
    open_and_closed = torch.tensor([-40.0, 40.0])
    gates = torch.stack([open_and_closed[forget], open_and_closed[update], torch.tensor(2.0)])
    hidden = gated_update(gates.reshape(1, 3, 1, 1), torch.full((1, 1, 1, 1), 0.5))
    assert hidden.item() == pytest.approx(expected)


def test_every_fifth_frame_is_memorised(monkeypatch):
    written = []
    monkeypatch.setattr(
        ThreeTierMemory,
        "write",
        lambda memory, *a, write=ThreeTierMemory.write, **k: (
            written.append(1) or write(memory, *a, **k)
        ),
    )
    image, labels = disc_volume(12, 32)
    list(propagate(image, {0: labels[0]}, model=tiny_model(), window="full"))
    assert len(written) == 1 + 2  # the annotated frame, then 5 and 10


def test_a_full_working_memory_is_compressed_into_prototypes():
    memory = ThreeTierMemory(replace(SMALL, max_long_term_tokens=50))
    remember(memory, 3)
    assert memory.sizes[:2] == (3 * FRAME, 0)
    remember(memory, 1)
    assert memory.sizes[:2] == (2 * FRAME, 3)


def test_memory_does_not_grow_with_the_sequence():
    memory = ThreeTierMemory(SMALL)
    for _ in range(60):
        remember(memory, 1)
        assert memory.sizes.working <= 4 * FRAME
        assert memory.sizes.long_term <= 10


def test_memory_is_read_by_an_anisotropic_distance_and_the_best_tokens():
    generator = torch.Generator().manual_seed(0)
    key, query = torch.randn(2, 1, 4, 7, generator=generator)
    shrinkage, selection = 1 + torch.rand(1, 1, 7), torch.rand(1, 4, 7)
    scores = affinity.similarity(key, shrinkage, query, selection)
    apart = (key[..., None] - query[:, :, None]).square()  # (1, CK, N, M)
    expected = -shrinkage[0, 0, :, None] * (selection[:, :, None] * apart).sum(1) / 2
    torch.testing.assert_close(scores, expected)
    weights = affinity.top_k_softmax(scores, 3)
    assert (weights.count_nonzero(1) == 3).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 7))


def test_objects_share_out_every_pixel():
    logits, shares = soft_aggregate(torch.rand(2, 3, 8, 8))
    assert logits.shape == shares.shape == (2, 4, 8, 8)  # the background comes first
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 8, 8))


# ---- section 3.3: adapters in frozen encoders ----


@pytest.fixture(scope="module")
def full_size() -> IMOS:
    """Return the paper's network without its numbers."""
    with torch.device("meta"):
        return IMOS(replace(IMOS_R50, adapters=True))


def test_every_residual_block_of_both_encoders_has_an_adapter(full_size):
    adapters = [name for name, module in full_size.named_modules() if type(module) is ConvAdapter]
    assert sum(name.startswith("key_encoder.") for name in adapters) == 3 + 4 + 6
    assert sum(name.startswith("value_encoder.") for name in adapters) == 2 + 2 + 2


def test_an_adapter_projects_down_and_up_again_and_scales():
    adapter = ConvAdapter(64)
    assert adapter.conv.weight.shape == (16, 64, 3, 3)
    assert adapter.convT.weight.shape == (16, 64, 3, 3)
    assert adapter.gate.item() == pytest.approx(0.02)
    assert sum(p.numel() for p in adapter.parameters()) == 18_673


def test_only_adapters_key_projection_and_decoder_learn(full_size):
    freeze_encoders(full_size)
    learning = {n: p.numel() for n, p in full_size.named_parameters() if p.requires_grad}
    assert all(".adapter." in n or n.startswith(("key_proj.", "decoder.")) for n in learning)
    spared = 1 - sum(learning.values()) / sum(p.numel() for p in full_size.parameters())
    assert spared == pytest.approx(0.480, abs=0.0005)


def test_without_its_scale_an_adapter_changes_nothing():
    plain, adapted = tiny_model(TINY_R50), tiny_model(replace(TINY_R50, adapters=True))
    adapted.load_state_dict(plain.state_dict() | adapter_state_dict(adapted))
    for module in adapted.modules():
        if isinstance(module, ConvAdapter):
            torch.nn.init.zeros_(module.gate)
    image, labels = disc_volume(3, 32)
    masks = [
        [s.labels for s in propagate(image, {0: labels[0]}, model=model, precision="float32")]
        for model in (plain, adapted)
    ]
    np.testing.assert_array_equal(*masks)


# ---- section 4: training and measuring ----


def test_cross_entropy_of_the_hardest_pixels_and_dice():
    logits = torch.zeros(1, 2, 10, 10)
    target = torch.zeros(1, 10, 10, dtype=torch.int64)
    logits[0, 1, :3, :5] = 5.0  # 15 of 100 pixels are wrong
    wrong = torch.nn.functional.cross_entropy(logits, target, reduction="none")[0, :3, :5].mean()
    hardest, share = bootstrapped_cross_entropy(logits, target, 10, start=0, end=10)
    assert share == pytest.approx(0.15)
    torch.testing.assert_close(hardest, wrong)
    assert dice_loss(torch.ones(1, 1, 10, 10), target + 1) == pytest.approx(0.0)


def test_j_and_f_is_the_mean_of_region_and_contour():
    _, truth = disc_volume(5)
    found = np.roll(truth, 4, axis=2)
    scores = metrics.j_and_f(found, truth)
    np.testing.assert_allclose(scores.j, metrics.jaccard(found, truth).mean())
    np.testing.assert_allclose(scores.mean, (scores.j + scores.f) / 2)
    assert scores.j < 1
