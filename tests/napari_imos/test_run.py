"""What a run says of itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from napari_imos import _run


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(_run.time, "monotonic", lambda: now.value)
    return now


def test_loading_a_model_says_nothing_of_the_slices(clock):
    job = SimpleNamespace(
        expected=lambda options: 41, main_slice=0, ranges=lambda options: ((0, 41),)
    )
    stream = SimpleNamespace(job=job, slices=0)
    run = _run.Run(stream, None, {"direction": "both"})
    assert run.progress() == "0 of 41 slices"
    clock.value += 30  # the model is loaded
    stream.slices = 1
    assert run.progress() == "1 of 41 slices"
    clock.value += 2
    stream.slices = 21
    assert run.progress() == "21 of 41 slices, 2.0 s left"
