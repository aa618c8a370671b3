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
    run = _run.ShownRun(stream, None, {"direction": "both"})
    assert run.progress() == "0 of 41 slices"
    clock.value += 30  # the model is loaded
    stream.slices = 1
    assert run.progress() == "1 of 41 slices"
    clock.value += 2
    stream.slices = 21
    assert run.progress() == "21 of 41 slices, 2.0 s left"


@pytest.mark.parametrize(
    ("span", "words"),
    [((0, 41), ""), ((6, 41), ""), ((20, 41), "slice 20"), ((0, 3), "slice 2"), ((9, 9), "")],
)
def test_a_range_elsewhere_is_walked_to_and_the_status_says_so(span, words):
    job = SimpleNamespace(
        expected=lambda options: 41, main_slice=5, prompts={5: None}, ranges=lambda options: (span,)
    )
    run = _run.ShownRun(SimpleNamespace(job=job, slices=0), None, {"direction": "both"})
    assert run.opening().startswith("Loading the model")
    assert ("on the way to" in run.opening()) == bool(words)
    assert words in run.opening()
