"""Which parts compute in less than float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_model

from imos_core import propagate
from imos_core.precision import lowered, undiminished

CPU = torch.device("cpu")


def test_parts_that_need_it_stay_as_they_are():
    a = torch.ones(2, 2)
    with lowered(CPU, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with undiminished(CPU):
            assert (a @ a).dtype == torch.float32
        with lowered(CPU, torch.float32):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16
    assert (a @ a).dtype == torch.float32


def test_a_device_that_knows_no_lower_types_runs_in_float32(monkeypatch):
    def refuse(device_type, *args, **options):
        raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")

    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda device_type: False)
    monkeypatch.setattr(torch, "autocast", refuse)
    image = np.random.default_rng(0).integers(0, 255, (4, 40, 40), np.uint8)
    prompt = np.zeros((40, 40), np.uint8)
    prompt[12:24, 12:24] = 1
    options = {"model": tiny_model(), "device": "cpu"}
    found = [item.index for item in propagate(image, {1: prompt}, precision="float32", **options)]
    assert sorted(found) == [0, 1, 2, 3]
    with pytest.raises(Exception, match="unsupported autocast"):
        list(propagate(image, {1: prompt}, precision="bfloat16", **options))
