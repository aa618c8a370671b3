"""The bar in the activity dock moves seldom, because napari handles events whenever it does."""

from __future__ import annotations

import napari.utils
import pytest

from napari_imos import _activity


class FakeBar:
    def __init__(self, total, desc):
        self.total, self.desc, self.n, self.moves, self.closed = total, desc, 0, 0, 0

    def update(self, step):
        self.n += step
        self.moves += 1

    def close(self):
        self.closed += 1


@pytest.fixture
def bars(monkeypatch):
    made = []

    def make(total, desc):
        made.append(FakeBar(total, desc))
        return made[-1]

    monkeypatch.setattr(napari.utils, "progress", make)
    return made


def test_it_moves_seldom_and_catches_up(bars, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(_activity.time, "monotonic", lambda: now[0])
    bar = _activity.ActivityBar(300, "iMOS")
    for done in range(1, 201):
        now[0] += 0.01
        bar.reach(done)
    assert (bars[0].total, bars[0].desc) == (300, "iMOS")
    assert bars[0].moves <= 8
    now[0] += 1
    bar.reach(201)
    assert bars[0].n == 201
    bar.reach(150)
    assert bars[0].n == 201, "it never goes back"
    bar.close()
    bar.close()
    bar.reach(250)
    assert (bars[0].closed, bars[0].n) == (1, 201)
