"""A fake engine and small layers, so that the plugin is tested without a network.

The volume holds one object per label that does not move, seen from the front:

    . . . . . . . .
    . 1 1 1 . . . .      every slice looks the same, so that the fake engine,
    . 1 1 1 . 2 2 .      which copies the prompt to all slices, is right
    . . . . . 2 2 .
"""

from __future__ import annotations

import gc
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event
from types import ModuleType
from typing import Any

import napari.settings
import numpy as np
import pytest

from imos_core.errors import PropagationError
from imos_core.walking.ending import Ending


@dataclass
class FakeSlice:
    index: int
    labels: np.ndarray
    source: str = "forward"
    confidence: np.ndarray | None = None


@dataclass
class FakeEngine:
    """Copies the prompt outward, alternating, at most `speed` slices a second."""

    pause: float = 0.0
    fail_at: int | None = None
    hold_at: int | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    release: Event = field(default_factory=Event)
    closed: bool = False
    gone: set[int] = field(default_factory=set)
    confidence: dict[int, float] = field(default_factory=dict)

    @staticmethod
    def source_of(k, prompts) -> str:
        if min(prompts) < k < max(prompts):
            return "blend"
        return "forward" if k > max(prompts) else "backward"

    @staticmethod
    def _passed(through):
        slices = {k for where in through.values() for k in where}
        return {k: [i for i, where in through.items() if k in where] for k in slices}

    @staticmethod
    def _add(labels, prompts, label, k):
        """Add an object as the nearest prompt that shows it has it."""
        shown = [p for p in prompts if (prompts[p] == label).any()]
        if shown and label and label not in labels:
            nearest = prompts[min(shown, key=lambda p: abs(p - k))]
            labels[(nearest == label) & (labels == 0)] = label

    def __call__(self, image, prompts, **keywords):
        self.calls.append({"image": image, "prompts": prompts, **keywords})
        return self._without_ended(self._slices(image, prompts, keywords), prompts, keywords)

    @staticmethod
    def _without_ended(slices, prompts, keywords):
        shown: dict[int, list[int]] = {}
        for k in sorted(prompts):
            for label in np.unique(prompts[k]).tolist():
                shown.setdefault(label, []).append(k)
        ending = Ending(shown, keywords.get("ends") or {})
        with closing(slices):
            for item in slices:
                if item.source != "anchor":
                    item.labels = ending.cut(item.index, item.labels)
                yield item

    def _slices(self, image, prompts, keywords):
        cancel = keywords.get("cancel")
        axis, start = keywords.get("axis", 0), keywords.get("start") or 0
        stop = image.shape[axis] if keywords.get("stop") is None else keywords["stop"]
        wanted = keywords.get("labels")
        try:
            passed = self._passed(keywords.get("through") or {})
            for k in sorted(prompts):
                if k not in passed:
                    yield FakeSlice(k, prompts[k].copy(), "anchor")
            rest = [k for k in range(start, stop) if k not in prompts or k in passed]
            for k in sorted(rest, key=lambda k: min(abs(k - p) for p in prompts)):
                if k == self.hold_at:
                    assert self.release.wait(60)
                if cancel is not None and cancel.is_set():
                    return
                if k == self.fail_at:
                    raise RuntimeError("CUDA out of memory")
                time.sleep(self.pause)
                labels = prompts[min(prompts, key=lambda p: abs(p - k))].copy()
                for label in np.unique([*prompts.values()]).tolist() if passed else ():
                    if k not in passed or label in passed[k]:
                        self._add(labels, prompts, label, k)
                if wanted is not None:
                    labels[~np.isin(labels, list(wanted))] = 0
                if k in self.gone:
                    labels[:] = 0
                sure = np.full(labels.shape, self.confidence.get(k, 0.9), np.float16)
                yield FakeSlice(k, labels, self.source_of(k, prompts), sure)
        finally:
            self.closed = True


@pytest.fixture(scope="session", autouse=True)
def frozen():
    """Let the garbage collector, which every viewer that closes waits for, pass by what stays."""
    import torch  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def review(monkeypatch):
    """Replace the numbers of `imos_core.review` by the simplest ones."""
    fake = ModuleType("imos_core.review")
    fake.anchor_distance = lambda index, anchors: min(abs(index - k) for k in anchors)
    fake.expected_jaccard = lambda confidence, labels, distance: float(confidence.min())

    def next_to_check(confidence, anchors, *, sure=0.85, ends=()):
        rest = {
            k: c for k, c in confidence.items() if k not in set(anchors) and (c < sure or k in ends)
        }
        return min(rest, key=rest.get) if rest else None

    fake.next_to_check = next_to_check
    monkeypatch.setitem(sys.modules, "imos_core.review", fake)


@pytest.fixture(autouse=True)
def settings(request):
    """Remember choices in a folder of the test, not in the person's own settings."""
    if hasattr(napari.settings, "get_plugin_settings"):  # napari >= 0.9
        request.getfixturevalue("plugin_settings")


@pytest.fixture(autouse=True)
def unsaved(monkeypatch, tmp_path):
    """Keep autosaves in a folder of the test, not in the person's own."""
    monkeypatch.setattr(
        "napari_imos._saved.recovery.user_data_path", lambda *a, **k: tmp_path / "own"
    )
    return tmp_path / "own" / "unsaved"


@pytest.fixture(autouse=True)
def adapters(monkeypatch, tmp_path):
    """Keep adapters in a folder of the test, not in the person's own."""
    monkeypatch.setattr("napari_imos._adapters.user_data_path", lambda *a, **k: tmp_path / "own")
    return tmp_path / "own" / "adapters"


@pytest.fixture
def engine(monkeypatch) -> FakeEngine:
    """Replace the engine."""
    # who imports it while it is replaced would keep the stand-in for the tests that come after
    import imos_core.propagation

    fake = FakeEngine()
    monkeypatch.setitem(vars(imos_core), "propagate", fake)
    monkeypatch.setattr("imos_core.weights.load_shared", lambda *args, **keywords: args)
    return fake


@pytest.fixture
def choices_in(qtbot):
    """The choices beside a viewer; Qt lets go of them before Python does, which would crash."""

    from napari_imos._dock.choices import LayerChoices

    def make(viewer):
        choices = LayerChoices(viewer)
        qtbot.addWidget(choices.native)
        return choices

    return make


@pytest.fixture
def volume() -> np.ndarray:
    """`(12, 20, 24)` image."""
    return np.random.default_rng(0).integers(0, 200, (12, 20, 24)).astype(np.uint8)


@pytest.fixture
def painted() -> np.ndarray:
    """`(12, 20, 24)` labels, painted on slice 5."""
    labels = np.zeros((12, 20, 24), np.uint8)
    labels[5, 4:10, 4:10] = 1
    labels[5, 8:12, 14:18] = 2
    return labels


@pytest.fixture
def broken() -> type[Exception]:
    """What the plugin makes of an engine that fails."""
    return PropagationError
