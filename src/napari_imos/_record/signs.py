"""Signs: what a layer's events say of whether Ctrl+Z may have taken a run back."""

from __future__ import annotations


class Signs:
    """Counts edits and redraws since somebody looked, as far as anybody tells of them.

    napari says of every edit that it is one, and only redraws after Ctrl+Z: who empties a layer
    with the fill bucket leaves just what Ctrl+Z would, but no redraw that nobody has asked for.
    """

    def __init__(self) -> None:
        self.replaced = False
        """Whether the layer has got another array."""
        self.erased = False
        """Whether the latest run looks taken back, and is not: what it left was erased."""
        self.redraws = False
        """Whether a step, of a person's or of ours, may have been taken back."""
        self._told = False
        self._depth = self._lowest = 0

    def brushed(self) -> None:
        """Note an edit, which is one more step that Ctrl+Z takes back before it comes to a run."""
        self._told = True
        self._depth += 1

    def redrawn(self) -> None:
        """Note a redraw: perhaps one step was taken back."""
        self._told = self.redraws = True
        self._depth -= 1
        self._lowest = min(self._lowest, self._depth)

    @property
    def calm(self) -> bool:
        """Whether nobody tells of anything but edits, and Ctrl+Z of these."""
        return self._lowest >= 0 and not self.replaced

    @property
    def only_edits(self) -> bool:
        """Whether somebody tells of edits, and of nothing else but Ctrl+Z of these."""
        return self._told and self.calm

    @property
    def allow_undo(self) -> bool:
        """Whether Ctrl+Z may have come to the latest run."""
        return self._lowest < 0 or self.replaced or not (self._told or self.erased)

    def looked(self) -> None:
        """Begin anew: somebody has looked."""
        self._told = self.replaced = self.redraws = False
        # to take back that something was erased is one more step
        self._depth = self._lowest = int(self.erased)
