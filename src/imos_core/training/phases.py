"""What a phase starts from and works on: its network, what of it learns, its material."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imos_core.data.folders import FolderSource
from imos_core.data.sources import (
    SequenceSource,
    StaticSource,
    SyntheticSource,
    refuse_empty_choice,
    sequence_names,
)
from imos_core.errors import FileError, WeightsError
from imos_core.model import IMOS
from imos_core.model.adapter import freeze_encoders
from imos_core.training.material_settings import FOLDERS, check_emphasis
from imos_core.training.shape import shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from imos_core.data.sources import Source
    from imos_core.training.config import TrainConfig


def network_of(
    config: TrainConfig, state: Mapping[str, Tensor] | None = None, origin: Path | None = None
) -> tuple[IMOS, list[str]]:
    """Build the network of a phase, from weights if there are any.

    Parameters
    ----------
    config : TrainConfig
        Phase.
    state : mapping of str to Tensor, optional
        Weights to start from. What they lack keeps its initialisation: adapters, as a rule.
    origin : Path, optional
        Where they come from, for messages.

    Returns
    -------
    network : IMOS
        Network, of which only what the phase trains requires gradients.
    fresh : list of str
        Names of tensors that the weights lack.

    Raises
    ------
    FileError
        If the preset is unknown, or its shape cannot be changed so.
    WeightsError
        If the weights belong to another network.
    """
    shape = shape_of(config)
    if state is not None:
        head = state.get("presence.inner.bias")
        # what the weights have is kept: adapters of an earlier phase, a head fitted after it
        shape = replace(
            shape,
            adapters=shape.adapters or any(".adapter." in name for name in state),
            presence=shape.presence if head is None else len(head),
        )
    model = IMOS(shape)
    fresh = [] if state is None else _start_from(model, state, origin)
    restrict(model, config)
    return model, fresh


def base_of(config: TrainConfig, state: Mapping[str, Tensor] | None, origin: Path | None) -> IMOS:
    """Build the network that adapters are tuned for, exactly as its weights say.

    Raises
    ------
    WeightsError
        If there are no weights, or they are not all of a network's.
    """
    if state is None:
        raise WeightsError(
            "Adapters alone are tuned on top of weights: name them with --resume WEIGHTS."
        )
    model, fresh = network_of(replace(config, adapters=False, trainable="all"), state, origin)
    if fresh:
        raise WeightsError(
            f"{origin} lacks {fresh[0]}: adapters are tuned on top of complete weights only."
        )
    return model.requires_grad_(False)


def restrict(model: IMOS, config: TrainConfig) -> None:
    """Let only those parameters learn that the phase trains; what is frozen by nature stays so."""
    if config.trainable == "all":
        return
    resting = {name for name, p in model.named_parameters() if not p.requires_grad}
    freeze_encoders(model)
    for name, parameter in model.named_parameters():
        spared = config.trainable == "adapters" and ".adapter." not in name
        if name in resting or spared:
            parameter.requires_grad_(False)


def sources_of(config: TrainConfig) -> list[tuple[Source, float]]:
    """Open what the phase names, with how often each is drawn.

    Raises
    ------
    FileError
        If there is nothing to train on, or emphasis is put on what is not there.
    """
    weights = dict(config.weights or {**dict.fromkeys(FOLDERS, 1.0), "synthetic": 0.3})
    sources: list[tuple[Source, float]] = []
    if config.static and weights.get("static", 0) > 0:
        sources.append((StaticSource(Path(config.static), config.emphasis), weights["static"]))
    if config.sequences and weights.get("sequences", 0) > 0:
        folder = Path(config.sequences)
        names = sequence_names(folder, config.licences, config.modalities)
        refuse_empty_choice(folder, names, config.licences, config.modalities)
        sources.append((SequenceSource(folder, names, config.emphasis), weights["sequences"]))
    if config.folders and weights.get("folders", 0) > 0:
        folders = [Path(f).expanduser() for f in config.folders]
        sources.append((FolderSource(folders), weights["folders"]))
    if config.regions and weights.get("regions", 0) > 0:
        regions = SequenceSource(Path(config.regions), emphasis=config.emphasis)
        sources.append((regions, weights["regions"]))
    if config.image_regions and weights.get("image_regions", 0) > 0:
        pictures = StaticSource(Path(config.image_regions), config.emphasis)
        sources.append((pictures, weights["image_regions"]))
    if weights.get("synthetic", 0) > 0:
        sources.append((SyntheticSource(emphasis=config.emphasis), weights["synthetic"]))
    if not sources:
        raise FileError(
            "The configuration names no training material: set static, sequences or folders."
        )
    check_emphasis(config.emphasis, (name for source, _ in sources for name in source.groups))
    return sources


def _start_from(model: IMOS, state: Mapping[str, Tensor], origin: Path | None) -> list[str]:
    """Put weights into a network; return which of its tensors they lack."""
    own = model.state_dict()
    wrong = [k for k, v in state.items() if k in own and own[k].shape != v.shape]
    if wrong or not set(own) & set(state):
        what = f"its tensor {wrong[0]} has another shape" if wrong else "no tensor fits"
        raise WeightsError(
            f"{origin} belongs to another network than {model.config.name} ({what}): start from "
            "weights of this preset."
        )
    missing, _ = model.load_state_dict(state, strict=False)
    return [k for k in missing if not k.endswith("num_batches_tracked")]
