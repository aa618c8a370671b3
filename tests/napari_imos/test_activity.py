"""The bar in the activity dock moves seldom, and slices come no faster than they are taken."""

from __future__ import annotations

from threading import Thread

import napari.utils
import pytest

from napari_imos import _activity, _engine, _worker
from napari_imos._engine import Control


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


def test_it_does_not_move_while_it_moves(bars, monkeypatch):
    monkeypatch.setattr(_activity, "_EVERY", 0)
    bar = _activity.ActivityBar(100, "iMOS")
    depths, update = [], FakeBar.update

    def handles_events(self, step):
        depths.append(len(depths))
        update(self, step)
        if len(depths) < 50:
            bar.reach(bar._done + 1)  # a slice arrived
        depths.pop()

    monkeypatch.setattr(FakeBar, "update", handles_events)
    for done in (1, 3, 5):
        bar.reach(done)
    assert bars[0].n == 5
    assert bars[0].moves == 3


def test_the_engine_waits_for_a_window_that_has_its_hands_full(monkeypatch):
    control, made, taken = Control(), [], []

    def slices(job, options, control):
        for k in range(20):
            made.append(k)
            yield k

    monkeypatch.setattr(_worker, "segmented", slices)
    thread = Thread(target=lambda: taken.extend(_worker.paced(None, {}, control)))
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    assert made == list(range(_engine._AHEAD + 1))
    for _ in range(3):
        control.room.release()
    thread.join(0.5)
    assert made == list(range(_engine._AHEAD + 4))
    control.cancel.set()
    thread.join(5)
    assert not thread.is_alive()
    assert taken == list(range(20)), "what is done is handed over"
