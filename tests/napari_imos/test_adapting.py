"""Adapting in the widget: live loss, stop, store by name, export and import."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox
from safetensors.numpy import save_file
from test_widget import click, open_widget, shown, wait, wait_done  # noqa: F401

from imos_core.adaptation.tune import AdaptProgress
from imos_core.errors import FileError, PropagationError, WeightsError
from napari_imos._adapters import AdapterStore

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class FakeAdaptation:
    better: bool
    before: float = 0.80
    after: float = 0.85
    held_back: str = "slices"

    def save(self, path: Path) -> None:
        save_file({"w": np.ones(1, np.float32)}, path, metadata={"base_sha256": "x"})


@dataclass
class FakeAdapt:
    better: bool = True
    fail: Exception | None = None
    hold: bool = False
    release: Event = field(default_factory=Event)
    calls: list = field(default_factory=list)

    def __call__(self, image, prompts, *, cancel, progress, seconds, **keywords):
        self.calls.append({"prompts": prompts, "seconds": seconds, **keywords})
        progress(AdaptProgress("check", 0, math.nan, 0.1, seconds))
        for step in range(1, 31):
            progress(AdaptProgress("tune", step, 1 / step, float(step), seconds))
            while self.hold and step == 20 and not cancel.is_set():
                if self.release.wait(0.01):
                    break
            if cancel.is_set():
                return FakeAdaptation(False, math.nan, math.nan)
        if self.fail is not None:
            raise self.fail
        return FakeAdaptation(self.better)


@pytest.fixture
def adapt(monkeypatch) -> FakeAdapt:
    import imos_core

    fake = FakeAdapt()
    monkeypatch.setitem(vars(imos_core), "adapt", fake)
    return fake


def wait_adapted(qtbot, widget):
    wait(qtbot, lambda: not widget.adapting.running)


def test_adapt_is_live_stored_by_name_chosen_and_used(
    qtbot,
    engine,
    adapt,
    open_widget,  # noqa: F811
    adapters,
):
    adapt.hold = True
    _, _, labels, widget = open_widget()
    labels.data[9, 4:9, 4:9] = 1
    panel = widget.adapting
    panel.name_box.value, panel.minutes_box.value = "nuclei", 3
    click(qtbot, panel.button)
    wait(qtbot, lambda: "step 20" in widget.status.value)
    assert widget.status.value.startswith("Adapting: learning, step 20, 2 min 40 s left")
    assert panel.button.text == "Stop adapting"
    assert len(panel.curve.mean) == 20
    assert (np.diff(panel.curve.mean) < 0).all()
    assert not widget.propagate.enabled
    labels.paint((5, 0, 0), 1)  # a person goes on meanwhile
    adapt.release.set()
    wait_adapted(qtbot, widget)
    assert sorted(adapt.calls[0]["prompts"]) == [5, 9]
    assert adapt.calls[0]["seconds"] == 180
    assert adapt.calls[0]["model"] == "imos-compact"
    assert widget.status.value == (
        "The adapter 'nuclei' is chosen: J&F 0.800 -> 0.850 on slices held back."
    )
    assert widget.advanced.adapter.chosen == adapters / "nuclei.safetensors"
    assert widget.advanced.adapter.chosen.is_file()
    click(qtbot, widget.propagate)
    wait_done(qtbot, widget)
    assert engine.calls[0]["adapter"] == str(adapters / "nuclei.safetensors")
    for name, stored in (("Nuclei", "Nuclei 2"), ("nuclei", "nuclei")):
        panel.name_box.value = name
        click(qtbot, panel.button)
        wait_adapted(qtbot, widget)
        assert widget.advanced.adapter.chosen == adapters / f"{stored}.safetensors"


def test_stop_no_gain_and_failure_store_nothing(
    qtbot,
    adapt,
    open_widget,  # noqa: F811
    adapters,
    shown,  # noqa: F811
):
    adapt.hold = True
    _, _, labels, widget = open_widget()
    click(qtbot, widget.adapting.button)
    wait(qtbot, lambda: "step 20" in widget.status.value)
    click(qtbot, widget.adapting.button)
    wait_adapted(qtbot, widget)
    assert widget.status.value == "Adapting was stopped: nothing has changed."
    adapt.hold, adapt.better = False, False
    click(qtbot, widget.adapting.button)
    wait_adapted(qtbot, widget)
    assert widget.status.value.startswith("Adapting did not help, nothing has changed: J&F 0.800")
    adapt.fail = RuntimeError("CUDA out of memory")
    click(qtbot, widget.adapting.button)
    wait_adapted(qtbot, widget)
    assert widget.status.value == "Adapting failed: CUDA out of memory."
    adapt.fail = PropagationError("The device ran out of memory: adapt with less.")
    click(qtbot, widget.adapting.button)
    wait_adapted(qtbot, widget)
    assert shown()[-1] == "The device ran out of memory: adapt with less."
    labels.data[:] = 0
    click(qtbot, widget.adapting.button)
    assert "Nothing is painted" in widget.status.value
    widget.adapting.name_box.value = "a/b"
    click(qtbot, widget.adapting.button)
    assert "cannot be named 'a/b'" in widget.status.value
    assert len(adapt.calls) == 4
    assert not list(adapters.glob("*"))


def test_adapting_can_be_stopped_after_its_layers_are_gone(qtbot, adapt, open_widget):  # noqa: F811
    adapt.hold = True
    viewer, _, _, widget = open_widget()
    click(qtbot, widget.adapting.button)
    wait(qtbot, lambda: "step 20" in widget.status.value)
    viewer.layers.clear()
    click(qtbot, widget.adapting.button)
    wait_adapted(qtbot, widget)
    assert widget.status.value == "Adapting was stopped: nothing has changed."
    assert not widget.adapting.enabled


def test_a_viewer_that_closes_stops_adapting(qtbot, adapt, open_widget):  # noqa: F811
    adapt.hold = True
    viewer, _, _, widget = open_widget()
    click(qtbot, widget.adapting.button)
    wait(qtbot, lambda: "step 20" in widget.status.value)
    tuning = widget.adapting._tuning
    viewer.close()
    wait(qtbot, lambda: tuning.outcome is not None)
    assert not tuning.stored


def test_export_and_import(qtbot, open_widget, tmp_path, monkeypatch):  # noqa: F811
    *_, widget = open_widget()
    choice = widget.advanced.adapter
    assert choice.chosen is None
    assert not choice.give.enabled
    given = tmp_path / "from a friend.safetensors"
    FakeAdaptation(True).save(given)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(given), ""))
    click(qtbot, choice.bring)
    assert choice.box.value == "from a friend"
    target = tmp_path / "again"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(target), ""))
    click(qtbot, choice.give)
    assert (tmp_path / "again.safetensors").read_bytes() == given.read_bytes()
    assert widget.status.value.startswith("Wrote again.safetensors")
    given.write_bytes(b"no tensors")
    click(qtbot, choice.bring)
    assert "is no adapter" in widget.status.value
    assert choice.box.value == "from a friend"
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: answers.pop(0))
    click(qtbot, choice.remove)
    assert choice.box.value == "from a friend", "asked first"
    click(qtbot, choice.remove)
    assert choice.box.value is None
    assert not choice.remove.enabled
    assert choice._store.names() == []


def test_the_store(tmp_path):
    store = AdapterStore(tmp_path / "new")
    assert store.names() == []
    whole = tmp_path / "model.safetensors"
    save_file({"w": np.ones(1, np.float32)}, whole, metadata={"config": "{}"})
    with pytest.raises(WeightsError, match="whole model"):
        store.take_in(whole)
    with pytest.raises(WeightsError, match="is no adapter"):
        store.take_in(tmp_path / "missing.safetensors")
    save_file({"w": np.ones(1, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="is no adapter"):
        store.take_in(tmp_path / "other.safetensors")
    file = tmp_path / "heart.safetensors"
    FakeAdaptation(True).save(file)
    assert [store.take_in(file), store.take_in(file)] == ["heart", "heart 2"]
    assert store.names() == ["heart", "heart 2"]
    # one file where systems ignore that letters are capital, and how accents are composed
    assert store.free_name("Heart") == "Heart 3"
    store.path("Cœur né").touch()
    assert store.free_name("cœur ne\u0301") == "cœur ne\u0301 2"
    store.remove("Cœur né")
    assert store.path(" heart ").is_file()
    with pytest.raises(FileError, match="cannot be written"):
        store.give_out("heart", tmp_path / "nowhere" / "x")
    for name in ("", "../x", ".x", "a:b"):
        with pytest.raises(FileError, match="cannot be named"):
            store.path(name)
