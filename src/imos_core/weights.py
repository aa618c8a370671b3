"""Weights: the embedded model, files by path, and what is known of each. No pickle is trusted."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from imos_core.adapter_headers import (
    SHORT,
    base_of_adapter,
    header_of,
    refuse_adapter,
    refuse_model,
    refuse_to_replace,
)
from imos_core.config import ModelConfig, check_shape
from imos_core.device import check_place, pick_device
from imos_core.errors import FileError, WeightsError
from imos_core.model import IMOS
from imos_core.paths import check_path
from imos_core.published import PUBLISHED, named
from imos_core.reference_states import read_reference
from imos_core.tensor_files import fingerprint_of, read_state, stored
from imos_core.whole_files import swapped_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_EMBEDDED = Path(__file__).parent / "_weights"


def save_weights(
    model: IMOS, path: Path, metadata: dict[str, str] | None = None, *, half: bool = True
) -> None:
    """Write a network as safetensors, with its configuration and activations, atomically.

    Parameters
    ----------
    model : IMOS
        Network.
    path : Path
        ``.safetensors`` file.
    metadata : dict of str, optional
        Added to the header.
    half : bool
        Whether as float16, which takes half the room; else as they are.

    Raises
    ------
    FileError
        If the file cannot be written.
    WeightsError
        If its numbers are not finite as they are stored.
    """
    state = stored(model.state_dict(), path, half=half)
    header = {**(metadata or {}), "config": json.dumps(asdict(model.config))}
    header.pop("activations", None)  # of another network
    if model.activations:
        header["activations"] = json.dumps(dict(model.activations))
    _write(path, state, header)


def _write(path: Path, state: dict[str, Tensor], header: dict[str, str]) -> None:
    with swapped_in(path) as partial:
        # bytes written by ourselves get the permissions of any new file
        partial.write_bytes(safetensors.torch.save(state, metadata=header))


def save_adapter(
    tensors: Mapping[str, Tensor],
    base: IMOS,
    path: str | os.PathLike[str],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write an adapter file: tensors that `load_model` puts on top of those of a base model.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        What was tuned, under the names of the network's state dict; none leaves the base as it is.
    base : IMOS
        Network that was tuned; the adapter is refused on top of any other.
    path : Path
        ``.safetensors`` file.
    metadata : dict of str, optional
        Added to the header, which has the file's name, and a modality: none if nobody says it.

    Raises
    ------
    FileError
        If the file cannot be written, or is there and no adapter.
    WeightsError
        If its numbers are not finite in float16.
    """
    path = Path(path)
    refuse_to_replace(path)
    state = stored(tensors, path)
    known = {"base": base.config.name, "base_sha256": fingerprint_of(base.state_dict())}
    header = {"name": path.stem, "modality": "", **(metadata or {}), **known}
    if base.origin:
        header["base_file"] = base.origin
    _write(path, state, header)


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a named model."""

    name: str
    """Name for `load_model`."""
    description: str
    """One sentence."""
    licence: str
    """Licence of the weights."""
    path: Path
    """Where the file is, or would be."""
    embedded: bool = True
    """Whether it comes with the package; others have to be fetched (`imos weights get`)."""

    @property
    def available(self) -> bool:
        """Whether the file is there."""
        return os.path.isfile(self.path)  # `Path.is_file` raises where one may not look

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    @property
    def sha256(self) -> str:
        """Checksum of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def metadata(self) -> dict[str, str]:
        """Header of the file: configuration, training summary."""
        return header_of(self.path)

    @property
    def parameters(self) -> int:
        """Parameters of the network."""
        with torch.device("meta"):  # nobody asks for the numbers
            return sum(p.numel() for p in IMOS(_config_of(self.path)).parameters())


def list_models() -> tuple[ModelInfo, ...]:
    """Return the models that have a name, and a place to be."""
    return (
        ModelInfo(
            "imos-compact",
            "Embedded model: trained by us on open medical and microscopy sequences, static "
            "images and synthetic volumes; with the frozen descriptors of XFeat.",
            "BSD-3-Clause, Apache-2.0",
            _EMBEDDED / "imos-compact.safetensors",
        ),
        *(
            ModelInfo(p.name, p.description, p.licence, where, False)
            for p in PUBLISHED
            if (where := p.path) is not None
        ),
    )


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    adapter: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> IMOS:
    """Load a network, ready for inference.

    Parameters
    ----------
    name_or_path : str or path
        Name from `list_models`, ``"imos-r50"`` for the published weights of that network, a
        ``.safetensors`` file of ours, or a ``.pth``/``.pt`` state dict of the reference (XMem,
        iMOS).
    adapter : str or path, optional
        Adapter file (see `imos adapt`); its tensors are added to those of the model, or take their
        place.
    device : str
        See `pick_device`.

    Returns
    -------
    IMOS
        Network in evaluation mode.

    Raises
    ------
    WeightsError
        If the name is unknown or the file does not fit.
    DeviceError
        If the device is not there.
    """
    where = pick_device(device)
    path = weights_file(name_or_path)
    state = read_state(path)
    if path.suffix == ".safetensors":
        config = _config_of(path)
    else:
        config, state = read_reference(path, state)
    extra = {} if adapter is None else _read_adapter(adapter, state, name_of(path))
    model = _built(config, state, extra, path.name, where)
    model.origin = "" if extra else name_of(path)
    if path.suffix == ".safetensors":
        model.activations = _activations_of(path)
    return model


def _built(
    config: ModelConfig,
    state: Mapping[str, Tensor],
    extra: Mapping[str, Tensor],
    name: str,
    device: torch.device,
) -> IMOS:
    """Make a network of the tensors of a model, called `name`, and those of an adapter."""
    if any(".adapter." in k for k in extra):
        config = replace(config, adapters=True)
    # building on the meta device skips random initialisation, which takes longer than loading
    with torch.device("meta"):
        model = IMOS(config)
    _fill(model, {**state, **extra}, name, has_adapter=bool(extra))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model = model.to(device)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def network_for(
    model: str | os.PathLike[str] | IMOS,
    *,
    adapter: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> IMOS:
    """Return the network of a run, which the caller does not change.

    Parameters
    ----------
    model : str, path or IMOS
        What `load_model` takes, or a network, which stays as it is.
    adapter : str or path, optional
        As of `load_model`; it is put on a copy of a network.
    device : str
        As of `load_model`; of a network, its own, which ``"auto"`` stands for.

    Raises
    ------
    WeightsError
        If the name is unknown or a file does not fit.
    DeviceError
        If the device is not there, or not the network's.
    """
    if not isinstance(model, IMOS):
        return load_shared(model, adapter=adapter, device=device)
    check_place(model, device)
    return model if adapter is None else _adapted(model, adapter)


def _adapted(base: IMOS, adapter: str | os.PathLike[str]) -> IMOS:
    """Copy a network, with an adapter on top."""
    name, state = base.origin or "a network", base.state_dict()
    extra = _read_adapter(adapter, state, name)
    copied = {k: v.clone() for k, v in state.items()}
    model = _built(base.config, copied, extra, name, next(base.parameters()).device)
    model.activations = dict(base.activations)
    return model


def load_shared(
    name_or_path: str | os.PathLike[str],
    *,
    adapter: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> IMOS:
    """Load a network that the caller does not change; one of the package is loaded only once.

    Parameters, result and errors are those of `load_model`.
    """
    names = {info.name for info in list_models()}
    name = named(str(name_or_path))
    if adapter is not None or name not in names:
        return load_model(name_or_path, adapter=adapter, device=device)
    file = weights_file(name).stat()
    return _shared(name, pick_device(device), (file.st_mtime_ns, file.st_size))


@lru_cache(maxsize=1)
def _shared(name: str, device: torch.device, version: tuple[int, int]) -> IMOS:
    """Load one of the package's networks, whose file is of a version."""
    return load_model(name, device=str(device))


def weights_file(name_or_path: str | os.PathLike[str]) -> Path:
    """File of a model, by its name or path; what only looks like a path need not be there.

    Raises
    ------
    WeightsError
        If there is no such name, or its weights are missing.
    """
    for info in list_models():
        if named(str(name_or_path)) == info.name:
            if not (info.available or info.embedded):
                raise WeightsError(
                    f"The weights of {info.name} are not here yet: fetch them once with imos "
                    f"weights get {info.name}, or give the path of their file."
                )
            if not info.available:
                raise WeightsError(
                    f"The weights of {info.name} are missing from the installation: install "
                    "napari-imos again."
                )
            return info.path
    try:
        path = _checked(name_or_path)
    except TypeError:
        raise WeightsError(
            f"{_short(name_or_path)} is no model to load: give its name or a weights file, or "
            "propagate with the network as it is."
        ) from None
    if path.suffix or path.exists():
        return path
    names = ", ".join(i.name for i in list_models())
    raise WeightsError(
        f"There is no model named {str(name_or_path)!r}: use one of {names}, or the path of a "
        "weights file."
    )


def _checked(path: str | os.PathLike[str]) -> Path:
    try:
        return check_path(path)
    except FileError as error:
        raise WeightsError(str(error)) from error


def _short(given: object) -> str:
    """Say what was given instead of a name; networks print as hundreds of lines."""
    return type(given).__name__ if isinstance(given, torch.nn.Module) else repr(given)


def _read_adapter(
    file: str | os.PathLike[str], base: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """Read an adapter; one that says what it was tuned for is held to it."""
    try:
        path = _checked(file)
    except TypeError:
        raise WeightsError(f"{_short(file)} is no adapter: give its file, or None.") from None
    tensors = read_state(path, "adapter")
    if path.suffix != ".safetensors":
        return tensors
    metadata = header_of(path)
    refuse_model(path, metadata)
    given = fingerprint_of(base)
    if metadata.get("base_sha256", given) != given:
        raise WeightsError(
            f"The adapter {path} was tuned for {base_of_adapter(metadata)}, but the model given is "
            f"{name} (fingerprint {given[:SHORT]}): give the one that it belongs "
            "to, or tune an adapter for this one."
        )
    return tensors


def name_of(path: Path) -> str:
    """What people call a weights file: the name of a model, or that of the file."""
    return next((i.name for i in list_models() if i.path == path), path.name)


def _activations_of(path: Path) -> dict[str, tuple[float, float]]:
    """Read how far the inputs of convolutions reach, as far as one of our files says it."""
    text = header_of(path).get("activations")
    try:
        said = json.loads(text) if text else {}
        reach = {str(name): (float(low), float(high)) for name, (low, high) in said.items()}
        if not all(-math.inf < low <= high < math.inf for low, high in reach.values()):
            raise ValueError
        return reach
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise WeightsError(
            f"The header of {path} is damaged where it says how far activations reach: measure "
            "them anew (python -m imos_core.training.activations)."
        ) from error


def _config_of(path: Path) -> ModelConfig:
    """Read the configuration in the header of one of our files."""
    refuse_adapter(path)
    text = header_of(path).get("config")
    try:
        values: dict[str, Any] = json.loads(text) if text else {}
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        config = ModelConfig(**fields)
        check_shape(config)
        return config
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path} holds no model of this version of napari-imos: choose another weights file."
        ) from error


def _fill(model: IMOS, state: dict[str, Tensor], name: str, *, has_adapter: bool) -> None:
    """Put tensors into a network built on the meta device, refusing anything that does not fit."""
    wanted, given = (
        {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
        for tensors in (model.state_dict(), state)
    )
    missing = [k for k in wanted if k not in given]
    wrong = [k for k, v in given.items() if k not in wanted or _kind(v) != _kind(wanted[k])]
    if missing or wrong:
        tensor = (missing + wrong)[0]
        what = "adapter" if has_adapter and ".adapter." in tensor else "checkpoint"
        raise WeightsError(
            f"The {what} does not fit the network ({name}: tensor {tensor} is "
            f"{'missing' if tensor in missing else 'unknown or of another shape or type'}): choose "
            "the file that belongs to it."
        )
    zero = torch.zeros((), dtype=torch.long, device="cpu")
    counters = {k: zero for k in model.state_dict() if k.endswith("num_batches_tracked")}
    model.load_state_dict({**given, **counters}, assign=True)


def _kind(tensor: Tensor) -> tuple[torch.Size, bool]:
    return tensor.shape, tensor.is_floating_point()
