"""A fake engine and small layers, so that the plugin is tested without a network.

The volume holds one object per label that does not move, seen from the front:

    . . . . . . . .
    . 1 1 1 . . . .      every slice looks the same, so that the fake engine,
    . 1 1 1 . 2 2 .      which copies the prompt to all slices, is right
    . . . . . 2 2 .
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
import pytest

from imos_core.errors import PropagationError


@dataclass
class FakeSlice:
    index: int
    labels: np.ndarray
    source: str = "forward"


@dataclass
class FakeEngine:
    """Copies the prompt outward, alternating, at most `speed` slices a second."""

    pause: float = 0.0
    fail_at: int | None = None
    hold_at: int | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    release: Event = field(default_factory=Event)
    closed: bool = False

    def __call__(self, image, prompts, **keywords):
        self.calls.append({"image": image, "prompts": prompts, **keywords})
        return self._slices(image, prompts, keywords)

    def _slices(self, image, prompts, keywords):
        cancel = keywords.get("cancel")
        axis, start = keywords.get("axis", 0), keywords.get("start") or 0
        stop = image.shape[axis] if keywords.get("stop") is None else keywords["stop"]
        wanted = keywords.get("labels")
        try:
            for k in sorted(prompts):
                yield FakeSlice(k, prompts[k].copy(), "anchor")
            rest = [k for k in range(start, stop) if k not in prompts]
            for k in sorted(rest, key=lambda k: min(abs(k - p) for p in prompts)):
                if k == self.hold_at:
                    assert self.release.wait(60)
                if cancel is not None and cancel.is_set():
                    return
                if k == self.fail_at:
                    raise RuntimeError("CUDA out of memory")
                time.sleep(self.pause)
                labels = prompts[min(prompts, key=lambda p: abs(p - k))].copy()
                if wanted is not None:
                    labels[~np.isin(labels, list(wanted))] = 0
                yield FakeSlice(k, labels)
        finally:
            self.closed = True


@pytest.fixture
def engine(monkeypatch) -> FakeEngine:
    """Replace the engine."""
    import imos_core

    fake = FakeEngine()
    monkeypatch.setitem(vars(imos_core), "propagate", fake)
    return fake


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
