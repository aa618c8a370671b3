"""Steps: which steps of a layer's history are runs, as Ctrl+Z and Ctrl+Shift+Z come to them."""

from __future__ import annotations

from collections import deque
from inspect import unwrap
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels

    from napari_imos._record.changes import Run
    from napari_imos._record.ledger import Ledger

_MOST = 100  # steps that napari keeps


class Step(NamedTuple):
    """One step of a layer's history."""

    runs: list[Run] | None = None
    """What it is a step of, or was made in the middle of; None: a person's, or not known."""
    ours: bool = False
    """Whether it is the runs; else what was painted while they were on their way."""


class Steps:
    """Mirrors the history of a layer.

    napari says of every step that it is made, and of none that it is taken back or made again: so
    the layer's two methods for that, which keys and scripts call alike, are wrapped.

    Parameters
    ----------
    labels : Labels
        Layer.
    ledger : Ledger
        Is asked what a new step is, and told what becomes of it.
    """

    def __init__(self, labels: Labels, ledger: Ledger) -> None:
        # plugins get stand-ins for layers, which cannot be copied with the layer
        self._layer: Any = unwrap(labels)  # type: ignore[arg-type]
        self._ledger = ledger
        self._done: deque[Step] = deque(maxlen=_MOST)
        self._undone: deque[Step] = deque(maxlen=_MOST)
        self._late: deque[Step] = deque(maxlen=_MOST)
        self._undo, self._redo = self._layer.undo, self._layer.redo
        self._layer.undo, self._layer.redo = self.undo, self.redo
        self._layer.events.paint.connect(self._on_made)
        self._layer.events.editable.connect(self._on_editable)

    @property
    def latest(self) -> Step:
        """What Ctrl+Z would take back."""
        return self._done[-1] if self._done else Step()

    def clear(self) -> None:
        """Know nothing of any step."""
        for steps in (self._done, self._undone, self._late):
            steps.clear()

    def undo(self) -> None:
        """Do what the layer's own method does, and tell; but take back no run while one writes."""
        if self._ledger.busy and self.latest.ours:
            return
        step = self._move(self._undo, self._done, self._undone)
        if step is not None and not self._ledger.undone(self._layer, step):
            # it was another one, of which nobody has heard
            self._done.append(step)
            self._undone[-1] = Step()

    def redo(self) -> None:
        """Do what the layer's own method does, and tell; but bring back no run while one writes."""
        source = self._undone or self._late
        if self._ledger.busy and source and source[-1].runs is not None:
            return
        step = self._move(self._redo, source, self._done)
        if step is not None:
            self._ledger.redone(self._layer, step)

    def _move(
        self, act: Callable[[], None], source: deque[Step], target: deque[Step]
    ) -> Step | None:
        """Let napari take a step back, or make it again; None if there was none.

        There may be older ones than are known here; napari draws the layer again if it finds one.
        """
        own, drawn = vars(self._layer).get("refresh"), False
        refresh = self._layer.refresh

        def draw(*args: Any, **keywords: Any) -> None:
            nonlocal drawn
            drawn = True
            refresh(*args, **keywords)

        self._layer.refresh = draw
        try:
            act()
        except Exception:
            drawn = True  # a step is moved before what it holds is written
            raise
        finally:
            vars(self._layer).pop("refresh", None)
            if own is not None:  # of another plugin
                self._layer.refresh = own
            step = (source.pop() if source else Step()) if drawn else None
            if step is not None:
                target.append(step)
        return step

    def _on_made(self, event: Any = None) -> None:
        # what is taken back while the brush is held down, napari can still make again
        self._late = self._undone.copy()
        self._undone.clear()
        self._done.append(self._ledger.step_in_hand)

    def _on_editable(self, event: Any = None) -> None:
        if not self._layer.editable:
            self.clear()  # as napari does
