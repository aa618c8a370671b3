"""Copies for inference are made once for a network as it is, and anew when it has changed."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny import TINY_R50, disc_volume, tiny_model

from imos_core.model import prepared as module
from imos_core.model import winograd
from imos_core.model.prepared import prepared
from imos_core.propagation import propagate


def labels_of(model, **how):
    image, labels = disc_volume()
    return np.stack(
        [s.labels for s in propagate(image, {4: labels[4]}, model=model, device="cpu", **how)]
    )


def test_runs_share_a_copy(monkeypatch):
    made = []
    original = module.for_inference
    monkeypatch.setattr(
        module, "for_inference", lambda *a, **k: made.append(1) or original(*a, **k)
    )
    model = tiny_model()
    first = labels_of(model)
    assert (first == labels_of(model)).all()
    assert len(made) == 1
    labels_of(tiny_model())
    assert len(made) == 2


def bump(model):
    with torch.no_grad():
        model.decoder.pred.weight.mul_(-3)


def behind_its_back(model):
    model.decoder.pred.weight.data.mul_(-3)


def load(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["decoder.pred.weight"] *= -3
    model.load_state_dict(state)


def replace(model):
    model.decoder.pred.weight = torch.nn.Parameter(model.decoder.pred.weight.detach() * -3)


@pytest.mark.parametrize("change", [bump, behind_its_back, load, replace])
def test_a_network_that_has_changed_is_copied_anew(change):
    model = tiny_model()
    before = prepared(model, torch.float32, grey=False)
    change(model)
    after = prepared(model, torch.float32, grey=False)
    assert after is not before
    torch.testing.assert_close(after.decoder.pred.weight, model.decoder.pred.weight)


def test_types_and_channels_have_their_own():
    model = tiny_model()
    copy = prepared(model, torch.float32, grey=False)
    assert prepared(model, torch.bfloat16, grey=False).decoder.pred.weight.dtype == torch.bfloat16
    assert prepared(model, torch.float32, grey=True).channels == 1
    assert copy.channels == 3


def test_a_copy_lives_no_longer_than_its_network():
    model = tiny_model()
    copy = weakref.ref(prepared(model, torch.float32, grey=False))
    del model
    gc.collect()
    assert copy() is None


def test_runs_at_the_same_time_do_not_disturb_each_other(monkeypatch):
    monkeypatch.setattr(winograd, "_MANY_CHANNELS", 8)
    model = tiny_model(TINY_R50)
    wanted = labels_of(model, window="full")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: labels_of(model, window="full"), range(8)))
    assert all((labels == wanted).all() for labels in found)
