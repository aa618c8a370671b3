"""State dicts of the reference: XMem and iMOS told apart, and completed as it completes them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from imos_core.config import IMOS_R50
from imos_core.errors import FileWarning, WeightsError
from imos_core.model import IMOS
from imos_core.model.adapter import ConvAdapter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from imos_core.config import ModelConfig

_ADAPTER = ".adapter."
_MASKS = "value_encoder.conv1.weight"
_CHANNELS = 5  # of an image, an object's mask, and those of all others


def read_reference(
    path: Path, state: Mapping[str, Tensor]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the configuration of a state dict, and all its tensors.

    Weights for one object see no masks of others, and take nothing from them then; a block whose
    adapter is not there at all has one that adds nothing.

    Parameters
    ----------
    path : Path
        File, for the message.
    state : mapping of str to Tensor
        What is in it.

    Raises
    ------
    WeightsError
        If it is of neither network.
    """
    if "key_encoder.layer3.5.conv3.weight" not in state:
        raise WeightsError(
            f"{path} is no checkpoint of XMem or iMOS: its tensors belong to another network."
        )
    adapters = any(_ADAPTER in k for k in state)
    normalisation: Any = "zscore" if adapters else "imagenet"
    config = replace(IMOS_R50, adapters=adapters, normalisation=normalisation)
    whole = {**_idle_adapters(path, config, state), **state} if adapters else dict(state)
    masks = whole.get(_MASKS)
    if masks is not None and masks.ndim == 4 and masks.shape[1] == _CHANNELS - 1:
        whole[_MASKS] = torch.cat([masks, torch.zeros_like(masks[:, :1])], 1)
    return config, whole


def _idle_adapters(
    path: Path, config: ModelConfig, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Adapters of blocks that have none: closed gates. Of half an adapter nothing is made up."""
    known = {k.partition(_ADAPTER)[0] for k in state if _ADAPTER in k}
    with torch.device("meta"):  # only names and sizes are wanted
        blocks = dict(IMOS(config).named_modules())
    made = {}
    lacking = [
        name
        for name, block in blocks.items()
        if isinstance(block, ConvAdapter) and name.removesuffix(".adapter") not in known
    ]
    for name in lacking:
        adapter = ConvAdapter(blocks[name].conv.in_channels)
        torch.nn.init.zeros_(adapter.gate)
        made.update({f"{name}.{k}": v for k, v in adapter.state_dict().items()})
    if lacking:
        warnings.warn(
            FileWarning(
                f"{path.name} lacks the adapters of {len(lacking)} of {len(lacking) + len(known)} "
                "blocks, which are as without one then: fetch it again if it should have all."
            ),
            stacklevel=2,
        )
    return made
