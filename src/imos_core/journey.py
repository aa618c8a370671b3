"""Journey: how the objects of a batch have looked on their way, by which presence is judged."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import torch

from imos_core.model.presence import Looks, evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from imos_core.model.presence import PresenceHead


@dataclass(frozen=True)
class Journey:
    """What is known of objects after a slice; the first axis of everything is the batch."""

    prompt: Looks
    """How they look where they are painted."""
    before: Looks
    """How they looked on the last slice."""
    largest: Tensor
    """`(B,)` largest area so far."""
    course: Tensor
    """`(B, hidden)` what the head remembers."""

    @classmethod
    def start(cls, head: PresenceHead, prompt: Looks) -> Self:
        """Begin at the painted slice."""
        return cls(prompt, prompt, prompt.area, head.start(len(prompt.area)))

    def next(
        self, head: PresenceHead, now: Looks, travel: Tensor, pixel: Tensor
    ) -> tuple[Tensor, Self]:
        """Judge a slice.

        Parameters
        ----------
        head : PresenceHead
            Who judges.
        now : Looks
            How the objects look there.
        travel, pixel : Tensor
            See `evidence`, where the latter is `step`.

        Returns
        -------
        present : Tensor
            `(B,)` probability that the slice shows the objects.
        journey : Journey
            What is known after it.
        """
        largest = torch.maximum(self.largest, now.area)
        found = evidence(now, self.before, self.prompt, largest, travel, pixel)
        logits, course = head(found, self.course)
        return torch.sigmoid(logits), type(self)(self.prompt, now, largest, course)

    def select(self, index: Tensor) -> Self:
        """Return some members of the batch."""
        looks = self.prompt.select(index), self.before.select(index)
        return type(self)(*looks, self.largest[index], self.course[index])

    def state(self) -> dict[str, Any]:
        """Everything as tensors."""
        looks = [[getattr(x, f.name) for f in fields(x)] for x in (self.prompt, self.before)]
        return {"looks": looks, "largest": self.largest, "course": self.course}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> Self:
        """Know what `state` said, on a device."""
        prompt, before = (Looks(*(x.to(device) for x in look)) for look in state["looks"])
        return cls(prompt, before, state["largest"].to(device), state["course"].to(device))
