"""Parts that the panels are made of: rows, lines of words that wrap, folds."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import Container, Label
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QLabel, QSizePolicy
from superqt import QCollapsible

from napari_imos._dock.names import breakable, unbroken

_WORD_CHARACTERS = 11  # room for the longest word before a box

_STYLED = (QEvent.Type.StyleChange, QEvent.Type.PaletteChange, QEvent.Type.FontChange)


def row(widgets: list[Any]) -> Container:
    """Return widgets beside each other."""
    made = Container(widgets=widgets, layout="horizontal", labels=False)
    made.margins = (0, 0, 0, 0)
    return made


class Line(Label):
    """Words that wrap, within long names too."""

    # not `get_value` and `set_value`, which magicgui asks since 0.10 only
    @property
    def value(self) -> str:
        """The words."""
        return unbroken(Label.value.fget(self))

    @value.setter
    def value(self, value: str) -> None:
        Label.value.fset(self, breakable(value))


def line(tooltip: str) -> Line:
    """Return a line of words that wraps."""
    label = Line(value="", tooltip=tooltip)
    label.native.setWordWrap(True)
    # as wide as the dock, so that it wraps no earlier than it must
    label.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label


def fold(title: str, tooltip: str, inner: Container, parent: Any) -> QCollapsible:
    """Return a container that is folded away until somebody opens it."""
    made = QCollapsible(title, parent)
    _Arrows(made)
    made.setDuration(0)
    made.setToolTip(tooltip)
    made.layout().setContentsMargins(0, 0, 0, 0)
    made.addWidget(inner.native)
    content = made.content()
    # the dock is as wide whether it is folded or not
    policy = content.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    content.setSizePolicy(policy)
    # without a height it would still take the focus
    content.setVisible(False)
    made.toggled.connect(content.setVisible)
    parent.layout().addWidget(made)
    return made


class _Arrows(QObject):
    """Paints the arrows of a fold in the colour and size of its words, which themes change.

    superqt does it once, before the fold has got its style: in black.

    Parameters
    ----------
    fold : QCollapsible
        Fold, which owns it.
    """

    def __init__(self, fold: QCollapsible) -> None:
        super().__init__(fold)
        self._fold = fold
        fold.toggleButton().installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Paint anew in another style."""
        if event is not None and event.type() in _STYLED:
            self._fold.setCollapsedIcon("▲")
            self._fold.setExpandedIcon("▼")
        return bool(super().eventFilter(watched, event))


def align(form: Container) -> None:
    """Let all boxes of a form begin at the same place, however large the letters become.

    magicgui does it too, but measures the words before napari's style makes them larger.
    """
    rows = form.native.layout()
    for i in range(rows.count()):
        row = rows.itemAt(i).widget().layout()
        word = None if row is None or not row.count() else row.itemAt(0).widget()
        if isinstance(word, QLabel):
            _Width(word).fit()


class _Width(QObject):
    """Keeps a word before a box as wide as the longest one needs.

    Parameters
    ----------
    word : QLabel
        Word, which owns this.
    """

    def __init__(self, word: QLabel) -> None:
        super().__init__(word)
        self._word = word
        word.installEventFilter(self)

    def fit(self) -> None:
        """Measure it."""
        width = _WORD_CHARACTERS * self._word.fontMetrics().averageCharWidth()
        if width != self._word.minimumWidth():
            self._word.setMinimumWidth(width)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Measure it anew in another font."""
        if event is not None and event.type() in _STYLED:
            self.fit()
        return bool(super().eventFilter(watched, event))
