"""Sensory memory: one small hidden state per object, refreshed every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


class SensoryMemory:
    """Hidden state of the gated updates (XMem, section 3.4)."""

    def __init__(self) -> None:
        self._hidden: Tensor | None = None

    @property
    def hidden(self) -> Tensor:
        """`(B, n, CH, h, w)`.

        Raises
        ------
        ValueError
            If nothing was memorised yet.
        """
        if self._hidden is None:
            raise ValueError("The sensory memory is empty: memorise a frame first.")
        return self._hidden

    @property
    def objects(self) -> int:
        """Number of objects known."""
        return 0 if self._hidden is None else self._hidden.shape[1]

    def grow(self, empty: Tensor) -> None:
        """Make room for all objects of `empty` `(B, n, CH, h, w)`; known ones keep their state."""
        if self._hidden is None:
            self._hidden = empty
        elif self.objects < empty.shape[1]:
            self._hidden = torch.cat([self._hidden, empty[:, self.objects :]], 1)

    def update(self, hidden: Tensor) -> None:
        """Replace the state by `hidden` `(B, n, CH, h, w)`."""
        self._hidden = hidden

    def select(self, rows: Tensor) -> None:
        """Keep the sequences `rows` (int64 numbers or bool, along `B`)."""
        if self._hidden is not None:
            self._hidden = self._hidden[rows]

    def clear(self) -> None:
        """Forget everything."""
        self._hidden = None
