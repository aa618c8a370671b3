"""Presence: whether a slice still shows the object, or it has ended.

A mask is easily carried on into slices where its object is no more: something similar is nearly
always there. Whether it is still the same object shows less in the mask than in the way it came:
how far it has travelled for its size, how its area went, whether what lies inside still looks like
the prompt and still stands out from what lies around. A small head judges that, and remembers what
it saw on the way: an end shows over several slices. The network goes on tracking either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from imos_core.precision import undiminished

if TYPE_CHECKING:
    from torch import Tensor

EVIDENCE = (
    "travel over the prompt's radius",
    "travel over the largest radius",
    "slices since the prompt",
    "spacing is known",
    "area against the prompt",
    "area against the largest",
    "area against the slice before",
    "mean probability",
    "highest probability",
    "features against the prompt",
    "features against the slice before",
    "intensity against the prompt",
    "contrast against the prompt",
    "contrast",
    "size of the prompt in its window",
)
"""What the head looks at; ratios as logarithms."""

_LEAST = 1e-3


class PresenceHead(nn.Module):
    """Judge evidence of one slice after the other: positive where the object is present.

    Evidence goes through a gated recurrent unit, which starts anew at the prompt. Fitted after the
    network (`imos_core.training.presence`), hence frozen.

    Parameters
    ----------
    hidden : int
        Units.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(len(EVIDENCE)))
        self.scale = nn.Parameter(torch.ones(len(EVIDENCE)))
        self.inner = nn.Linear(len(EVIDENCE), hidden)
        self.course = nn.GRU(hidden, hidden, batch_first=True)
        self.outer = nn.Linear(2 * hidden, 1)
        # not fitted yet: everything is present
        nn.init.zeros_(self.outer.weight)
        nn.init.constant_(self.outer.bias, 5.0)
        self.requires_grad_(False)

    def start(self, count: int) -> Tensor:
        """Return what is known of `count` objects at the prompt, `(count, hidden)`."""
        return self.centre.new_zeros(count, self.course.hidden_size)

    def forward(self, evidence: Tensor, course: Tensor) -> tuple[Tensor, Tensor]:
        """Judge one slice, or several in order.

        Parameters
        ----------
        evidence : Tensor
            `(B, len(EVIDENCE))` of one slice, or `(B, T, len(EVIDENCE))`.
        course : Tensor
            `(B, hidden)` what is known from the slices before.

        Returns
        -------
        logits : Tensor
            `(B,)` or `(B, T)`.
        course : Tensor
            `(B, hidden)` to go on with.
        """
        alone = evidence.ndim == 2
        with undiminished(evidence.device):
            seen, way, course = self.remember(evidence[:, None] if alone else evidence, course)
            logits: Tensor = self.outer(torch.cat([seen, way], -1))[..., 0]
        return (logits[:, 0] if alone else logits), course

    def remember(self, evidence: Tensor, course: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is seen of slices `(B, T, ...)`, what is known after each, and `course`."""
        # far outliers say no more than near ones
        scaled = ((evidence - self.centre) * self.scale).clamp(-5, 5).float()
        seen = torch.tanh(self.inner(scaled))
        way, last = self.course(seen, course[None])
        return seen, way, last[0]


@dataclass(frozen=True)
class Looks:
    """How a batch of objects looks in its windows; the first axis of everything is the batch."""

    area: Tensor
    """Area in physical units."""
    features: Tensor
    """`(B, C)` mean image features inside."""
    inside: Tensor
    """Mean intensity inside, 0..1."""
    contrast: Tensor
    """Mean intensity inside less that of a ring around."""
    spread: Tensor
    """Standard deviation of the window."""
    share: Tensor
    """Share of the window inside."""
    mean: Tensor
    """Mean probability inside."""
    peak: Tensor
    """Highest probability."""

    def select(self, index: Tensor) -> Looks:
        """Return some members of the batch."""
        return Looks(*(getattr(self, f.name)[index] for f in fields(self)))


def look(prob: Tensor, intensity: Tensor, features: Tensor, unit: Tensor) -> Looks:
    """Describe objects by their masks.

    Parameters
    ----------
    prob : Tensor
        `(B, S, S)` probability of the object in its window.
    intensity : Tensor
        `(B, S, S)` window in 0..1, not normalised.
    features : Tensor
        `(B, C, h, w)` image features of the window.
    unit : Tensor
        `(B,)` physical area of one window pixel.
    """
    prob, intensity = prob.float(), intensity.float()
    seen = prob > 0.5
    mask = seen.float()
    count = mask.sum((1, 2))
    some = count.clamp(min=1)
    ring = (_dilated(seen) & ~seen).float()
    inside = (mask * intensity).sum((1, 2)) / some
    around = (ring * intensity).sum((1, 2)) / ring.sum((1, 2)).clamp(min=1)
    cells = F.adaptive_avg_pool2d(prob[:, None], (features.shape[-2], features.shape[-1]))
    pooled = (features.float() * cells).sum((2, 3)) / cells.sum((2, 3)).clamp(min=_LEAST)
    return Looks(
        count * unit,
        pooled,
        inside,
        inside - around,
        intensity.flatten(1).std(1),
        count / mask[0].numel(),
        (mask * prob).sum((1, 2)) / some,
        prob.flatten(1).amax(1),
    )


def _dilated(masks: Tensor) -> Tensor:
    """Dilate masks `(B, h, w)` by squares of 13 x 13 pixels."""
    wide = F.pad(masks, (6, 6, 6, 6))
    for axis in (1, 2):
        # 2, 4, 8 and 13 neighbours at a time
        for step in (1, 2, 4, 5):
            length = wide.shape[axis] - step
            wide = wide.narrow(axis, 0, length) | wide.narrow(axis, step, length)
    return wide


def evidence(
    now: Looks, before: Looks, prompt: Looks, largest: Tensor, travel: Tensor, step: Tensor
) -> Tensor:
    """Compare a slice with what went before: `(B, len(EVIDENCE))`.

    Parameters
    ----------
    now, before, prompt : Looks
        The slice, the one before it, and the prompt.
    largest : Tensor
        `(B,)` largest area so far.
    travel : Tensor
        `(B, 2)` slices since the prompt, and their physical distance; the latter is negative where
        the distance of slices is unknown (its size is then a guess).
    step : Tensor
        `(B,)` physical area of one pixel of the image, which bounds ratios of tiny objects.
    """
    known = (travel[:, 1] >= 0).float()
    distance = travel[:, 1].abs()

    def ratio(a: Tensor, b: Tensor) -> Tensor:
        return torch.log((a + step) / (b + step))

    def radius(area: Tensor) -> Tensor:
        return torch.sqrt((area + step) / math.pi)

    spread = prompt.spread.clamp(min=_LEAST)
    return torch.stack(
        [
            torch.log(distance / radius(prompt.area)),
            torch.log(distance / radius(largest)),
            torch.log(travel[:, 0]),
            known,
            ratio(now.area, prompt.area),
            ratio(now.area, largest),
            ratio(now.area, before.area),
            now.mean,
            now.peak,
            F.cosine_similarity(now.features, prompt.features),
            F.cosine_similarity(now.features, before.features),
            (now.inside - prompt.inside).abs() / spread,
            (now.contrast - prompt.contrast).abs() / spread,
            now.contrast.abs() / spread,
            torch.log(prompt.share + _LEAST),
        ],
        1,
    )
