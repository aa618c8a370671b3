"""The golden run, restated: weights by formula, the video, and the five scenarios.

The reference was run once with weights that anyone can compute: pseudo-random numbers seeded by
the name of each tensor, and a few planted channels. Six key channels carry the local colour and
one channel of the mask path carries the mask, so that masks stay meaningful.
"""

from __future__ import annotations

import lzma
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from imos_core.config import MemoryConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imos_core.model import IMOS
    from imos_core.propagator import Propagator

SUBSET = Path(__file__).parents[1] / "data" / "golden_subset.npz"

# ---- weights ----

_WHOLE = {
    r"key_proj\.key_proj": 0.15,
    r"key_proj\.d_proj": 0.2,
    r"key_proj\.e_proj": 0.4,
    r"decoder\.up_(16_8|8_4)\.skip_conv": 0.5,
    r"decoder\.pred": 0.04,
}
_INPUTS = {
    r"value_encoder\.conv1": ((slice(0, 3), 0.5), (slice(3, 5), 2.0)),
    r"(value_encoder|decoder)\.fuser\.block1\.(downsample|conv1)": ((slice(0, 1024), 0.3),),
}
_LAST_NORM = r"key_encoder\.(?!.*adapter).*\.bn3|value_encoder\.layer(?!.*adapter).*\.bn2"

_SIX_ZEROS = (
    r"key_encoder\.bn1\.(bias|running_mean)"
    r"|key_encoder\.\w+\.\d\.bn3\.(weight|bias|running_mean)"
    r"|key_encoder\.\w+\.0\.downsample\.1\.(bias|running_mean)"
    r"|key_encoder\.(conv1|\w+\.0\.downsample\.0)\.weight"
    r"|key_proj\.key_proj\.(weight|bias)"
)
_ONE_ZERO = (
    r"value_encoder\.bn1\.(bias|running_mean)"
    r"|value_encoder\.layer\d\.\d\.(adapter\.)?bn2\.(weight|bias)"
    r"|value_encoder\.layer\d\.0\.downsample\.1\.(bias|running_mean)"
    r"|value_encoder\.layer\d\.0\.downsample\.0\.weight|value_encoder\.conv1\.weight"
    r"|(value_encoder|decoder)\.fuser\.block[12]\.conv2\.(weight|bias)"
    r"|(value_encoder|decoder)\.fuser\.block1\.downsample\.(weight|bias)"
    r"|decoder\.up_(16_8|8_4)\.(skip_conv|out_conv\.conv2)\.(weight|bias)"
    r"|decoder\.up_16_8\.out_conv\.downsample\.(weight|bias)"
)


def golden_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the value of one tensor of the state dict."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    layer, kind = name.rsplit(".", 1)
    if kind == "running_var":
        value = np.exp(0.1 * draw)
    elif kind == "gate":
        value = 0.15 + 0.05 * draw
    elif kind in {"running_mean", "bias"}:
        value = 0.05 * draw
    elif len(shape) == 1:
        value = (1 + 0.1 * draw) * (0.3 if re.fullmatch(_LAST_NORM, layer) else 1.0)
    else:
        fan_in = np.prod(shape[1:]) if not layer.endswith("convT") else shape[0] * 9
        value = draw * np.sqrt(2 / fan_in)
        for pattern, factor in _WHOLE.items():
            value *= factor if re.fullmatch(pattern, layer) else 1.0
        for pattern, factors in _INPUTS.items():
            for channels, factor in factors if re.fullmatch(pattern, layer) else ():
                value[:, channels] *= factor
    _plant(name, value)
    return value.astype(np.float32)


def _plant(name: str, value: np.ndarray) -> None:
    colour = range(6)
    if re.fullmatch(_SIX_ZEROS, name):
        value[:6] = 0
    elif re.fullmatch(_ONE_ZERO, name):
        value[0] = 0
    if name == "key_encoder.conv1.weight":  # mean and negative mean of each input channel
        for c in range(3):
            value[c, c], value[c + 3, c] = 1 / 49, -1 / 49
    elif re.fullmatch(r"key_encoder\.\w+\.0\.downsample\.0\.weight", name):
        value[colour, colour, 0, 0] = 1
    elif name == "key_proj.key_proj.weight":
        value[colour, colour, 1, 1] = 8
    elif name == "value_encoder.conv1.weight":
        value[0, 3] = 1 / 49
    elif re.fullmatch(r"value_encoder\.layer[23]\.0\.downsample\.0\.weight", name):
        value[0, 0, 0, 0] = 1
    elif re.fullmatch(r"\w+\.fuser\.block1\.downsample\.weight", name):
        value[0, 1024, 1, 1] = 1  # the first channel after the image's
    elif name == "decoder.up_16_8.out_conv.downsample.weight":
        value[0, 0, 1, 1] = 1
    elif name == "decoder.pred.weight":
        value[0, 0], value[0, 0, 1, 1] = 0, 8
    elif name == "decoder.pred.bias":
        value[0] = -3.8


def fill(model: IMOS) -> str:
    """Give a network the golden weights; return their checksum."""
    checksum = 0
    state = {}
    for name, tensor in sorted(model.state_dict().items()):
        value = golden_tensor(name, tuple(tensor.shape))
        checksum = zlib.crc32(value.tobytes(), zlib.crc32(name.encode(), checksum))
        state[name] = torch.from_numpy(value)
    model.load_state_dict(state)
    return f"{checksum:08x}"


# ---- input ----


def pack_video(video: np.ndarray) -> np.ndarray:
    """Compress `(T, H, W, 3)` uint8, of which neighbouring columns are similar."""
    steps = np.diff(video, axis=2, prepend=np.uint8(0))
    return np.frombuffer(lzma.compress(steps.tobytes()), np.uint8)


def unpack_video(packed: np.ndarray) -> np.ndarray:
    """Return the golden video `(12, 96, 128, 3)` uint8."""
    steps = np.frombuffer(lzma.decompress(packed.tobytes()), np.uint8).reshape(12, 96, 128, 3)
    return np.cumsum(steps, axis=2, dtype=np.uint8)


def normalise(video: np.ndarray, network: str) -> torch.Tensor:
    """Frames `(T, 3, H, W)` as the reference feeds them to a network."""
    x = torch.from_numpy(video).permute(0, 3, 1, 2).float() / 255
    if network == "xmem":
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
        return (x - mean) / std
    return (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1e-5)


# ---- scenarios ----


@dataclass(frozen=True)
class Scenario:
    """One propagation; frames from `aligned` on are not compared (reference quirk 1)."""

    rows: slice
    columns: slice
    frames: int
    memory: MemoryConfig
    objects: int = 1
    late: bool = False
    """Whether object 3 joins in frame 5."""
    aligned: int = 99


_ALL = slice(None)
SCENARIOS = {
    "A": Scenario(_ALL, _ALL, 12, MemoryConfig(2, 2, 3, 16, 1000), 2, late=True, aligned=8),
    "B": Scenario(slice(2, 93), slice(3, 124), 12, MemoryConfig(1, 2, 3, 12, 41), 2),
    "C": Scenario(_ALL, _ALL, 9, MemoryConfig(1, 3, 5, 16, 1000), 2, late=True),
    "D": Scenario(
        _ALL, slice(0, 96), 9, MemoryConfig(2, long_term=False, deep_update_every=3)
    ),
    "E": Scenario(_ALL, slice(0, 96), 12, MemoryConfig()),
}  # fmt: skip


def run(
    scenario: Scenario, network: str, propagator: Propagator, golden: Mapping[str, np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield frame number and probabilities `(n + 1, H, W)` of the comparable frames."""
    window = (..., scenario.rows, scenario.columns)
    frames = normalise(unpack_video(golden["video"]), network)[window]
    numbers = np.arange(1, scenario.objects + 1)
    for t in range(min(scenario.frames, scenario.aligned)):
        masks, valid = None, None
        if t == 0:
            masks, valid = golden["labels_0"][window] == numbers[:, None, None], list(numbers)
        elif t == 5 and scenario.late:
            late = golden["labels_5"][window] == 3
            masks, valid = np.stack([np.zeros_like(late), np.zeros_like(late), late]), [3]
        given = None if masks is None else torch.from_numpy(masks).float()
        prob = propagator.step(frames[t], given, valid, end=t == scenario.frames - 1)
        yield t, prob.numpy()
