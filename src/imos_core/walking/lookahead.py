"""Lookahead: what windows will show on the next slices, cut and encoded before it is asked for.

Nothing of it depends on masks as long as the windows stay where they are, which they mostly do. A
few windows cost an encoder hardly more than one, so with one object several slices go together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch

from imos_core.model import QueryFeatures, frame_flow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from imos_core.model import IMOS
    from imos_core.walking.sight import Sight
    from imos_core.windows import Window


class Seen(NamedTuple):
    """What a batch of windows shows; the first axis of everything is the batch."""

    frames: Tensor
    """`(B, C, S, S)`, normalised."""
    grey: Tensor
    """`(B, S, S)` intensity in 0..1."""
    features: QueryFeatures
    """Of the frames."""
    flow: Tensor | None
    """`(B, 2, S, S)` where pixels were in the frames before, if the network asks for it."""


class Lookahead:
    """Frames and features of one slice after the other.

    Parameters
    ----------
    model : IMOS
        Network.
    sight : Sight
        Where windows are cut.
    most : int
        Windows that may be encoded together.
    """

    def __init__(self, model: IMOS, sight: Sight, most: int) -> None:
        self._model, self._sight, self._most = model, sight, most
        self._coming: deque[tuple[tuple[int, ...], Sequence[Window], Seen]] = deque()
        self._reach = 1

    def see(
        self, paths: Sequence[Sequence[int]], windows: Sequence[Window], before: Tensor
    ) -> Seen:
        """Return what windows show on the next slices.

        Parameters
        ----------
        paths : sequence of sequence of int
            The slices that each window will come to, the next one first.
        windows : sequence of Window
            Windows on the next slices.
        before : Tensor
            `(B, C, S, S)` frames of the slices before.

        Raises
        ------
        FileError
            If one of the next slices cannot be read.
        """
        if self._coming and self._coming[0][:2] == (_step(paths, 0), windows):
            return self._coming.popleft()[2]
        reach = 1  # windows have moved ...
        if not self._coming:  # ... or everything was used: look further
            reach = max(min(self._reach, self._most // len(paths), *map(len, paths)), 1)
        self._coming.clear()
        if reach > 1 and not self._can_look(paths, windows, before, reach):
            # what cannot be read, or has no room, is missed when its turn comes
            self._most = reach = 1
        if reach == 1:
            self._look(paths, windows, before, reach)
        self._reach = 2 * reach
        return self._coming.popleft()[2]

    def _can_look(
        self,
        paths: Sequence[Sequence[int]],
        windows: Sequence[Window],
        before: Tensor,
        reach: int,
    ) -> bool:
        """Look at some slices; what fails holds no memory any more once this returns."""
        try:
            self._look(paths, windows, before, reach)
        except Exception:
            return False
        return True

    def _look(
        self,
        paths: Sequence[Sequence[int]],
        windows: Sequence[Window],
        before: Tensor,
        reach: int,
    ) -> None:
        """Cut and encode some slices."""
        steps = [_step(paths, k) for k in range(reach)]
        indices = [index for step in steps for index in step]
        frames, grey = self._sight.cut(indices, [*windows] * reach)
        features = self._model.encode_query(frames)
        flow = None
        if self._model.config.flow:
            flow = frame_flow(frames, torch.cat([before, frames[: -len(before)]]))
        for k, step in enumerate(steps):
            part = slice(k * len(step), (k + 1) * len(step))
            seen = Seen(
                frames[part],
                grey[part],
                QueryFeatures(*(x[part] for x in features)),
                None if flow is None else flow[part],
            )
            self._coming.append((step, windows, seen))


def _step(paths: Sequence[Sequence[int]], ahead: int) -> tuple[int, ...]:
    """The slice that each window comes to, so many steps ahead."""
    return tuple(path[ahead] for path in paths)
