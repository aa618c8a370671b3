"""Journey: how the objects of a batch have looked on their way, by which presence is judged."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import torch

from imos_core.model.presence import Looks, evidence
from imos_core.walking.damage import kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from imos_core.model.presence import PresenceHead

_COURSE = "largest", "course", "present"
"""What is known beside looks."""


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
    present: Tensor
    """`(B,)` probability that the last slice shows the objects."""

    @classmethod
    def start(cls, head: PresenceHead, prompt: Looks) -> Self:
        """Begin at the painted slice."""
        present = torch.ones_like(prompt.area)
        return cls(prompt, prompt, prompt.area, head.start(len(prompt.area)), present)

    def next(self, head: PresenceHead, now: Looks, travel: Tensor, pixel: Tensor) -> Self:
        """Judge a slice: what is known after it.

        Parameters
        ----------
        head : PresenceHead
            Who judges.
        now : Looks
            How the objects look there.
        travel, pixel : Tensor
            See `evidence`, where the latter is `step`.
        """
        largest = torch.maximum(self.largest, now.area)
        found = evidence(now, self.before, self.prompt, largest, travel, pixel)
        logits, course = head(found, self.course)
        return type(self)(self.prompt, now, largest, course, torch.sigmoid(logits))

    def keep(self, before: Self, members: Sequence[int]) -> Self:
        """Let some members of the batch be as they were before a slice that says nothing."""

        def was(now: Tensor, then: Tensor) -> Tensor:
            return kept(now, then, members)

        return type(self)(
            self.prompt,
            Looks(*map(was, _values(self.before), _values(before.before))),
            *(was(getattr(self, name), getattr(before, name)) for name in _COURSE),
        )

    def select(self, index: Tensor) -> Self:
        """Return some members of the batch."""
        looks = self.prompt.select(index), self.before.select(index)
        return type(self)(*looks, self.largest[index], self.course[index], self.present[index])

    def state(self) -> dict[str, Any]:
        """Everything as tensors."""
        looks = [_values(x) for x in (self.prompt, self.before)]
        rest = {name: getattr(self, name) for name in _COURSE}
        return {"looks": looks, **rest}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> Self:
        """Know what `state` said, on a device."""
        prompt, before = (Looks(*(x.to(device) for x in look)) for look in state["looks"])
        rest = (state[name].to(device) for name in _COURSE)
        return cls(prompt, before, *rest)


def _values(looks: Looks) -> list[Tensor]:
    """Everything that looks consist of."""
    return [getattr(looks, f.name) for f in fields(looks)]
