"""IMOS: the whole network as four stateless verbs, and soft aggregation of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from imos_core.model.decoder import Decoder
from imos_core.model.encoders import KeyProjection, QueryEncoder, ValueEncoder
from imos_core.model.guide import Guide
from imos_core.model.presence import PresenceHead

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from imos_core.config import ModelConfig

__all__ = ["IMOS", "Guide", "QueryFeatures", "soft_aggregate"]


class QueryFeatures(NamedTuple):
    """What the query encoder says of a frame."""

    f16: Tensor
    """`(B, C, h, w)` features at memory stride."""
    f8: Tensor
    """Features at stride 8."""
    f4: Tensor
    """Features at stride 4."""
    key: Tensor
    """`(B, CK, h, w)`."""
    shrinkage: Tensor
    """`(B, 1, h, w)`, at least 1."""
    selection: Tensor
    """`(B, CK, h, w)`, between 0 and 1."""


class IMOS(nn.Module):
    """Memory network for sequences of slices or frames.

    The modules keep the names of the reference, so its state dicts load unchanged.

    Parameters
    ----------
    config : ModelConfig
        Shape of the network.
    """

    activations: Mapping[str, tuple[float, float]]
    """Smallest and largest input that convolutions were seen to get, by the names of their modules;
    these can compute in eight bits (`imos_core.model.quantised`). `train` forgets them: what has
    learned since gives others."""
    origin: str
    """Name of the model, or of the weights file, that it was loaded from; empty: none."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.activations = {}
        self.origin = ""
        self.key_encoder = QueryEncoder(config)
        self.value_encoder = ValueEncoder(config)
        self.key_proj = KeyProjection(config.query_planes[2] * config.expansion, config.key_dim)
        self.decoder = Decoder(config)
        self.presence = PresenceHead(config.presence) if config.presence else None
        self.eval()

    @property
    def channels(self) -> int:
        """Channels of a frame: 3; 1 in a copy for grey images (`inference.for_inference`)."""
        return self.key_encoder.conv1.weight.shape[1]

    def train(self, mode: bool = True) -> Self:
        """Switch to training, batch norms excepted: they always use running statistics."""
        super().train(mode)
        if mode:
            self.activations = {}
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def encode_query(self, frame: Tensor) -> QueryFeatures:
        """Encode frames `(B, channels, H, W)`, normalised, sides multiples of 16."""
        f16, f8, f4 = self.key_encoder(frame)
        return QueryFeatures(f16, f8, f4, *self.key_proj(f16))

    def encode_value(
        self,
        frame: Tensor,
        f16: Tensor,
        hidden: Tensor,
        masks: Tensor,
        *,
        deep_update: bool = True,
        others: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode a memory frame.

        Parameters
        ----------
        frame : Tensor
            `(B, channels, H, W)`.
        f16 : Tensor
            Features of the same frame at memory stride.
        hidden : Tensor
            `(B, n, CH, h, w)`.
        masks : Tensor
            `(B, n, H, W)` probabilities without background.
        deep_update : bool
            Whether to refresh the sensory memory.
        others : Tensor, optional
            `(B, n, H, W)` probability of all other objects; by default the sum of the other
            channels of `masks`.

        Returns
        -------
        value : Tensor
            `(B, n, CV, h, w)`.
        hidden : Tensor
            `(B, n, CH, h, w)`.
        """
        if others is None:
            others = other_objects(masks)
        value, hidden = self.value_encoder(frame, f16, hidden, masks, others, deep_update)
        return value, hidden

    def decode(
        self,
        features: QueryFeatures,
        readout: Tensor,
        hidden: Tensor,
        *,
        update_hidden: bool = True,
        guide: Guide | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode a frame from its features, memory readout and sensory memory.

        Returns
        -------
        logits : Tensor
            `(B, n, H, W)`, objects independent; see `soft_aggregate`.
        hidden : Tensor
            `(B, n, CH, h, w)`.
        """
        logits, hidden = self.decoder(features[:3], readout, hidden, update_hidden, guide)
        return logits, hidden

    def initial_hidden(self, frame: Tensor, objects: int) -> Tensor:
        """Return an empty sensory memory `(B, objects, CH, h, w)` for frames `(B, C, H, W)`."""
        batch, _, height, width = frame.shape
        stride = self.config.memory_stride
        shape = (batch, objects, self.config.hidden_dim, height // stride, width // stride)
        return frame.new_zeros(shape)


def other_objects(masks: Tensor) -> Tensor:
    """Sum of the other objects' channels, for each object of `masks` `(B, n, H, W)`."""
    if masks.shape[1] == 1:
        return torch.zeros_like(masks)
    return masks.sum(1, keepdim=True) - masks


def soft_aggregate(prob: Tensor) -> tuple[Tensor, Tensor]:
    """Merge independent object probabilities into one distribution (STM, equation 3).

    Parameters
    ----------
    prob : Tensor
        `(B, n, H, W)`, each object against everything else.

    Returns
    -------
    logits : Tensor
        `(B, n + 1, H, W)`, background first.
    prob : Tensor
        `(B, n + 1, H, W)`, sums to 1.
    """
    background = torch.prod(1 - prob, dim=1, keepdim=True)
    odds = torch.cat([background, prob], 1).float().clamp(1e-7, 1 - 1e-7)
    logits = torch.log(odds / (1 - odds))
    return logits, torch.softmax(logits, dim=1)
