"""Many objects: bounded batches, no dependence on packing, halving when memory runs out."""

from __future__ import annotations

import re
import weakref
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, disc_volume, tiny_model

from imos_core import propagate
from imos_core.anchors import Leg
from imos_core.byte_sizes import parse_size
from imos_core.config import IMOS_COMPACT, MemoryConfig
from imos_core.errors import OutOfMemoryWarning, PromptError, PropagationError
from imos_core.walking import budget
from imos_core.walking.budget import Plan, plan, remembered_bytes, resident_bytes
from imos_core.walking.checkpoint import Checkpoint
from imos_core.walking.cohort import WindowCohort
from imos_core.walking.sight import Sight

AHEAD = tuple(range(51, 100))
SMALL = replace(TINY, window_size=48)
OPTIONS = {"device": "cpu", "precision": "float32"}


def cells(rows, side=8):
    """Square cells that touch on all sides, ids in no order; and a noisy image of them."""
    ids = np.random.default_rng(0).permutation(rows * rows) + 1
    labels = np.kron(ids.reshape(rows, rows), np.ones((side, side), int)).astype(np.uint16)
    noise = np.random.default_rng(1).integers(0, 255, (3, *labels.shape), dtype=np.uint8)
    return noise, labels


def slices(image, painted, model, **more):
    return {s.index: s for s in propagate(image, {1: painted}, model=model, **OPTIONS, **more)}


@pytest.fixture
def batches(monkeypatch):
    """Sizes of the batches that the network is shown; its memory says where objects were."""
    model = tiny_model(SMALL)
    seen = []
    encode = type(model).encode_query

    def counted(self, frames):
        seen.append(len(frames))
        return encode(self, frames)

    def as_before(self, features, readout, hidden, *, update_hidden=True, guide=None):
        return (guide.previous_mask - 0.5) * 12, hidden

    monkeypatch.setattr(type(model), "encode_query", counted)
    monkeypatch.setattr(type(model), "decode", as_before)
    return model, seen


@pytest.mark.slow
def test_two_thousand_objects(batches):
    model, seen = batches
    image, labels = cells(45)
    found = slices(image, labels, model, batch=128)
    assert max(seen) == 128
    for k in (0, 2):
        # ids are kept, and nothing fuses where it touches
        assert set(np.unique(found[k].labels)) - {0} == set(range(1, 2026))
        same = found[k].labels == labels
        assert same.mean() > 0.85
        inner = np.kron(np.ones((45, 45), bool), np.pad(np.ones((4, 4), bool), 2))
        np.testing.assert_array_equal(found[k].labels[inner], labels[inner])
    # a few of them, one by one: an object's window does not know how many others are computed
    for label in (1, 700, 2025):
        alone = slices(image, labels, model, labels=[label])
        for k in (0, 2):
            ours = found[k].labels == label
            assert (alone[k].labels[ours] == label).all()
            elsewhere = (alone[k].labels == label) & ~ours
            # what it lost, it lost to a neighbour
            assert not elsewhere.any() or (found[k].labels[elsewhere] != 0).mean() > 0.5


def test_the_result_does_not_depend_on_batches_or_on_the_order_of_ids():
    image, labels = cells(6)
    model = tiny_model(SMALL)
    usual = slices(image, labels, model)
    for batch in (1, 7):
        other = slices(image, labels, model, batch=batch)
        for k in usual:
            agree = other[k].labels == usual[k].labels
            assert agree.mean() > 0.995, "but for rounding"
    swapped = slices(image, np.where(labels > 0, 37 - labels, 0).astype(np.uint16), model)
    for k in usual:
        back = np.where(swapped[k].labels > 0, 37 - swapped[k].labels, 0)
        assert (back == usual[k].labels).mean() > 0.995


def failing(model, monkeypatch, limit, part="encode_query"):
    """Run out of memory whenever more than so many windows are shown at a time."""
    encode = getattr(type(model), part)

    def tight(self, frames, *arguments, **more):
        if len(frames) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, frames, *arguments, **more)

    monkeypatch.setattr(type(model), part, tight)


@pytest.mark.parametrize("when", ["at the anchors", "later", "while remembering"])
def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch, when):
    image, labels = cells(4)
    image = np.concatenate([image] * 3)
    model = tiny_model(SMALL)
    memory = MemoryConfig(memorize_every=2)
    prompts = {4: labels}
    options = {"model": model, "memory": memory, **OPTIONS}
    usual = {s.index: s for s in propagate(image, prompts, **options)}
    run = propagate(image, prompts, **options)
    found = {}
    if when != "at the anchors":
        found = {s.index: s for s in [next(run), next(run)]}
    failing(
        model, monkeypatch, 8, "encode_value" if when == "while remembering" else "encode_query"
    )
    with pytest.warns(OutOfMemoryWarning) as caught:
        found |= {s.index: s for s in run}
    # half of 32, and half of that; then it fits
    assert [re.search(r"\d+", str(w.message)).group() for w in caught] == ["16", "8"]
    assert sorted(found) == list(range(9))
    for k, item in usual.items():
        assert (found[k].labels == item.labels).mean() > 0.995


def test_not_even_one_window_fits(monkeypatch):
    image, labels = cells(2)
    model = tiny_model(SMALL)
    failing(model, monkeypatch, 0)
    with pytest.warns(OutOfMemoryWarning), pytest.raises(PropagationError, match="ran out"):
        list(propagate(image, {1: labels}, model=model, **OPTIONS))


@pytest.mark.parametrize("window", ["auto", "full"])
def test_memory_that_waits_on_disk_comes_back_as_it_was(monkeypatch, window, tmp_path):
    from imos_core import propagation

    image, truth = disc_volume(24, 40)
    labels = truth[12] + 0
    labels[2:9, 2:9], labels[30:38, 30:38] = 2, 3
    model = tiny_model()
    memory = MemoryConfig(memorize_every=1, min_working_frames=2, max_working_frames=4)
    options = {"model": model, "memory": memory, "window": window, **OPTIONS}
    monkeypatch.setattr(propagation, "plan", lambda *_, **__: Plan(2))
    usual = {s.index: s for s in propagate(image, {12: labels}, **options)}
    monkeypatch.setattr(propagation, "plan", lambda *_, **__: Plan(2, resident=0))
    saved = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *a, **k: (saved.append(1), save(*a, **k)))
    checkpoint = Checkpoint(tmp_path, 10)
    found = {s.index: s for s in propagate(image, {12: labels}, checkpoint=checkpoint, **options)}
    assert len(saved) > 20
    for k, item in usual.items():
        np.testing.assert_array_equal(found[k].labels, item.labels)
        np.testing.assert_array_equal(found[k].confidence, item.confidence)


def test_of_blocks_that_wait_on_disk_a_checkpoint_takes_one_at_a_time(monkeypatch, tmp_path):
    from imos_core import propagation

    noise, labels = cells(2)
    options = {"model": tiny_model(), **OPTIONS}
    monkeypatch.setattr(propagation, "plan", lambda *_, **__: Plan(1, resident=0))
    tensors, held = [], []

    def count(state):
        tensors.append(weakref.ref(state["hidden"]))
        held.append(len({id(found) for one in tensors if (found := one()) is not None}))
        return state

    give, take = WindowCohort.state, WindowCohort.load_state
    monkeypatch.setattr(WindowCohort, "state", lambda self: count(give(self)))
    monkeypatch.setattr(WindowCohort, "load_state", lambda self, state: take(self, count(state)))
    for resume in (False, True):
        checkpoint = Checkpoint(tmp_path, 1, resume=resume)
        run = propagate(np.tile(noise, (3, 1, 1)), {4: labels}, checkpoint=checkpoint, **options)
        assert [next(run).index for _ in range(3)] == ([6, 2, 7] if resume else [4, 5, 3])
        next(run)
        run.close()
    assert len(held) > 40
    assert max(held) == 1


class TestBudget:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("4GB", 4e9),
            ("500 MB", 5e8),
            ("2GiB", 2**31),
            ("1.5g", 1.5e9),
            (1000, 1000),
            (4e16, 4e16),
        ],
    )
    def test_sizes(self, text, size):
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["much", "-4GB", "0", "4 TBs", "1.2.3GB"])
    def test_bad_sizes(self, text):
        with pytest.raises(PromptError, match="no amount of memory"):
            parse_size(text)

    @staticmethod
    def planned(budget, objects, batch=None, anchors=1, **more):
        legs = [
            Leg(i + 1, 50 - k, "forward", AHEAD, (50,))
            for i in range(objects)
            for k in range(anchors)
        ]
        return plan(
            budget, batch, config=IMOS_COMPACT, memory=MemoryConfig(), plane_bytes=10**6,
            legs=legs, colour=False, side=96, device=torch.device("cpu"), **more,
        )  # fmt: skip

    def test_more_memory_never_means_smaller_batches(self):
        here = resident_bytes()
        plans = [self.planned(here + extra * 10**6, 2000) for extra in (200, 800, 4000, 64000)]
        sizes = [p.batch for p in plans]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]
        assert plans[0].resident is not None, "the memory of 2000 objects does not fit"
        assert plans[-1].resident is None

    def test_one_object_needs_no_disk(self):
        assert self.planned(resident_bytes() + 4 * 10**8, 1).resident is None

    def test_without_a_budget_nothing_waits(self):
        assert self.planned(None, 2000).resident is None
        assert self.planned(None, 2000, batch=5).batch == 5

    def test_too_little(self):
        with pytest.raises(PromptError, match="not enough here: give at least"):
            self.planned(10**6, 1)

    def test_slices_that_many_walks_look_at_have_their_share(self):
        few, many = self.planned(None, 1), self.planned(None, 1, anchors=1000)
        assert few.planes < 20
        assert 400 < many.planes < 600
        given = resident_bytes() + 4 * 10**9
        assert given / 10 < self.planned(given, 1, anchors=1000).planes * 10**6 < given / 8
        # what they take is not there for others
        with pytest.raises(PromptError, match="not enough"):
            self.planned(resident_bytes() + 12 * 10**7, 1, anchors=1000)
        self.planned(resident_bytes() + 12 * 10**7, 1)

    def test_slices_of_many_walks_are_let_go(self, monkeypatch):
        alive = weakref.WeakValueDictionary()

        class Image:
            shape, dtype = (41, 32, 32), np.dtype(np.uint8)

            def __getitem__(self, key):
                alive[len(alive), key[0]] = pixels = np.full((32, 32), key[0], np.uint8)
                return pixels

        monkeypatch.setattr(budget, "_KEPT_BYTES", 20 * 32 * 32)
        painted = np.pad(np.ones((9, 9), np.uint8), (8, 15))
        prompts = dict.fromkeys(range(0, 41, 2), painted)
        for _ in propagate(Image(), prompts, model=tiny_model(), **OPTIONS):
            assert len(alive) <= 20

    def test_what_looks_at_the_same_slices_comes_together(self, monkeypatch):
        read = []

        class Image:
            shape, dtype = (49, 32, 32), np.dtype(np.uint8)

            def __getitem__(self, key):
                read.append(key[0])
                return np.full((32, 32), key[0], np.uint8)

        monkeypatch.setattr(budget, "_KEPT_BYTES", 16 * 32 * 32)
        painted = np.kron(np.array([[1, 2], [3, 4]], np.uint8), np.ones((16, 16), np.uint8))
        prompts = dict.fromkeys(range(0, 49, 4), painted)
        for _ in propagate(Image(), prompts, model=tiny_model(), batch=2, **OPTIONS):
            pass
        assert len(read) < 3 * 49

    @pytest.mark.parametrize("given", ["1MB", "500MB", "1GB"])
    def test_what_is_asked_for_is_enough_once_it_is_given(self, given):
        def beside(budget):  # others take more where there is more
            return max(10**8, min(budget // 2, 10**10))

        with pytest.raises(PromptError) as refused:
            self.planned(parse_size(given), 1, beside=beside)
        asked = re.search(r"at least (\d+MB)", str(refused.value)).group(1)
        self.planned(parse_size(asked), 1, beside=beside)

    @pytest.mark.parametrize("objects", [1, 9])
    def test_what_is_remembered_is_as_planned(self, monkeypatch, objects):
        memory = MemoryConfig(
            memorize_every=1, min_working_frames=2, max_working_frames=4, num_prototypes=16,
            max_long_term_tokens=80, top_k=8,
        )  # fmt: skip
        held = []
        remember = WindowCohort.remember

        def measured(cohort, ended=()):
            remember(cohort, ended)
            if len(cohort):
                held.append(tensor_bytes(cohort) / len(cohort))

        monkeypatch.setattr(WindowCohort, "remember", measured)
        image, _ = cells(4)
        labels = np.zeros(image.shape[1:], np.uint8)
        for i in range(objects):
            labels[10 * (i // 3) : 10 * (i // 3) + 8, 10 * (i % 3) : 10 * (i % 3) + 8] = i + 1
        config = replace(IMOS_COMPACT, presence=None, window_size=64)
        still = np.repeat(image[:1], 30, 0)
        model = tiny_model(config)
        monkeypatch.setattr(
            type(model),
            "decode",
            lambda _, f, r, h, guide, **k: ((guide.previous_mask - 0.5) * 12, h),
        )
        list(propagate(still, {0: labels}, model=model, memory=memory, **OPTIONS))
        leg = Leg(1, 0, "forward", tuple(range(1, 30)), (0,))
        planned = remembered_bytes(config, memory, [leg] * objects, 64, colour=False)
        assert 0.4 * planned < max(held) <= planned
        assert max(held[-8:]) <= 1.02 * max(held[10:18])  # it does not grow for ever


def tensor_bytes(cohort):
    """Bytes of all tensors that a cohort holds, but for the network and the slices."""
    seen, storages = set(), {}

    def look(thing):
        if id(thing) in seen:
            return
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(thing, dict):
            for value in thing.values():
                look(value)
        elif isinstance(thing, list | tuple | set | deque):
            for value in thing:
                look(value)
        elif isinstance(thing, torch.nn.Module | Sight):
            return
        elif type(thing).__module__.startswith("imos_core"):
            look(getattr(thing, "__dict__", {}))

    look(vars(cohort))
    return sum(storages.values())
