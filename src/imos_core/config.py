"""Configuration as frozen dataclasses: the network, and the memory of a propagation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, SupportsIndex, get_args, get_origin, get_type_hints

from imos_core.errors import PromptError

DESCRIPTOR_DIM = 64
"""Channels of the dense descriptors."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network; two presets are two instances of it."""

    name: str
    """Name by which people ask for the model."""
    query_planes: tuple[int, int, int] = (64, 128, 256)
    """Inner channels of the three stages of bottlenecks in the query encoder."""
    query_depths: tuple[int, int, int] = (3, 4, 6)
    """Bottlenecks per stage in the query encoder."""
    expansion: int = 4
    """Output channels of a bottleneck divided by its inner channels."""
    stem_channels: int = 64
    """Channels of the first convolution of both encoders."""
    value_planes: tuple[int, int, int] = (64, 128, 256)
    """Channels of the three stages of basic blocks in the value encoder."""
    value_depths: tuple[int, int, int] = (2, 2, 2)
    """Basic blocks per stage in the value encoder."""
    key_dim: int = 64
    """Channels of keys and queries."""
    value_dim: int = 512
    """Channels of memory values."""
    hidden_dim: int = 64
    """Channels of the sensory memory."""
    decoder_channels: tuple[int, int, int] = (512, 256, 256)
    """Channels of the decoder at memory stride, stride 8 and stride 4."""
    gate_reduction: int = 16
    """Reduction of the channel gate in the fusers."""
    memory_stride: Literal[8, 16] = 16
    """Pixels per memory token along each axis."""
    adapters: bool = False
    """Whether every residual block carries a convolutional adapter (iMOS)."""
    guided: bool = False
    """Whether the decoder also sees the previous frame and its mask at full resolution."""
    guide_channels: int = 48
    """Channels of that path at stride 4."""
    descriptors: bool = False
    """Whether frozen dense descriptors, trained for correspondence, stand beside f4."""
    flow: bool = False
    """Whether the guide also moves the previous mask by optical flow."""
    presence: int | None = None
    """Units of a head that judges if a slice still shows the object; None: none does."""
    normalisation: Literal["imagenet", "zscore"] = "imagenet"
    """How intensities are normalised before the network."""
    window_size: int = 256
    """Pixels along each side of an object-centred window, after resampling."""
    colour_window_size: int | None = None
    """The same for colour images; None: no difference."""
    full_size: int = 480
    """Pixels along the short side of a whole slice, after resampling."""

    @property
    def f4_channels(self) -> int:
        """Channels of the image features at stride 4."""
        described = DESCRIPTOR_DIM if self.descriptors else 0
        return self.query_planes[0] * self.expansion + described

    def window(self, colour: bool) -> int:
        """Pixels along each side of a window of a grey or a colour image."""
        return (self.colour_window_size if colour else None) or self.window_size

    def fine_window(self, colour: bool) -> int:
        """The same for what is too thin for a window of that size (`imos_core.windows.is_thin`).

        Colours have finer windows anyway, and the network of the paper looks at them as they are.
        """
        return 2 * self.window_size if self.guided and not colour else self.window(colour)

    def channels(self, colour: bool) -> int:
        """Channels of a frame that differ: 1 where those of a grey image are normalised alike."""
        return 3 if colour or self.normalisation == "imagenet" else 1

    @property
    def padding(self) -> int:
        """Height and width of the input must be multiples of this many pixels."""
        return 16


_MOST = {
    "query_depths": 64,
    "value_depths": 64,
    "expansion": 16,
    "full_size": 8192,
}
"""Most that a number of a `ModelConfig` may be; of others `_WIDEST`."""
_WIDEST = 4096


def check_shape(config: ModelConfig) -> None:
    """Refuse what no network has, before one is built of it or a window is as large.

    Raises
    ------
    ValueError
        If a field is of another kind, or out of all proportion.
    """
    for name, kind in get_type_hints(ModelConfig).items():
        value = getattr(config, name)
        several, choices = get_origin(kind) is tuple, get_args(kind)
        if get_origin(kind) is Literal:
            fits = value in choices
        elif kind in (bool, str):
            fits = isinstance(value, kind)
        elif value is None:
            fits = type(None) in choices
        else:
            numbers = value if several and isinstance(value, tuple) else (value,)
            fits = len(numbers) == (len(choices) if several else 1) and all(
                type(n) is int and 1 <= n <= _MOST.get(name, _WIDEST) for n in numbers
            )
        if not fits:
            raise ValueError(f"{name} cannot be {value!r}")
    if config.gate_reduction > min(config.value_dim, config.decoder_channels[0]):
        raise ValueError(f"gate_reduction cannot be {config.gate_reduction}")


@dataclass(frozen=True)
class MemoryConfig:
    """How much is remembered, and for how long (symbols of the paper in brackets)."""

    memorize_every: int = 5
    """Every how many frames a segmented frame is memorised [r]."""
    min_working_frames: int = 5
    """Frames left in working memory after a consolidation [T_min]."""
    max_working_frames: int = 10
    """Frames that trigger a consolidation [T_max]."""
    num_prototypes: int = 128
    """Tokens that a consolidation adds to long-term memory [P]."""
    max_long_term_tokens: int = 10000
    """Most tokens in long-term memory [LT_max]."""
    top_k: int = 30
    """Memory tokens that each query position reads."""
    long_term: bool = True
    """Whether there is a long-term memory."""
    count_usage: bool = True
    """Whether reads of long-term memory are counted, which eviction needs."""
    deep_update_every: int = -1
    """Memorised frames also refresh the sensory memory by the value encoder if the latest that did
    is at least so many frames back; -1: all do, and by that alone. Windows always do as with -1."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and not isinstance(value, SupportsIndex):
                raise ValueError(f"{field.name} must be a whole number, not {value!r}.")
            if field.type == "bool" and value not in (True, False):
                raise ValueError(f"{field.name} must be True or False, not {value!r}.")
        if self.memorize_every < 1:
            raise ValueError("memorize_every must be at least 1.")
        if self.min_working_frames < 1:
            raise ValueError("min_working_frames must be at least 1.")
        if self.max_working_frames <= self.min_working_frames:
            raise ValueError("max_working_frames must be larger than min_working_frames.")
        if self.num_prototypes < 1 or self.top_k < 1:
            raise ValueError("num_prototypes and top_k must be at least 1.")
        if self.long_term and self.max_long_term_tokens <= self.num_prototypes:
            raise ValueError("max_long_term_tokens must be larger than num_prototypes.")


def check_memory(memory: Any) -> None:
    """Refuse what is neither a `MemoryConfig` nor None.

    Raises
    ------
    PromptError
        If it is something else.
    """
    if not isinstance(memory, MemoryConfig | None):
        raise PromptError(
            f"memory must be a MemoryConfig, not {memory!r}: to bound the bytes that a run takes, "
            "give memory_budget."
        )


WINDOW_MEMORY = MemoryConfig(max_long_term_tokens=4000)
"""Where objects are followed in windows of 12 x 12 positions (24 x 24 if thin), not whole frames.

4,000 prototypes stand for some 780 slices: the default would be the reach of 1,950, and reading the
last of it costs as much as the windows themselves.
"""

IMOS_R50 = ModelConfig(name="imos-r50")
"""The network of the paper, without adapters (XMem)."""

IMOS_COMPACT = ModelConfig(
    name="imos-compact",
    query_planes=(16, 32, 64),
    query_depths=(2, 3, 4),
    expansion=2,
    stem_channels=32,
    value_planes=(32, 48, 96),
    value_depths=(1, 1, 1),
    key_dim=48,
    value_dim=96,
    hidden_dim=32,
    decoder_channels=(96, 64, 48),
    gate_reduction=8,
    memory_stride=8,
    guided=True,
    guide_channels=48,
    descriptors=True,
    flow=True,
    presence=144,
    normalisation="zscore",
    window_size=96,
    colour_window_size=128,
    full_size=256,
)
"""The embedded network: the same modules, narrower, with a finer memory and a guide."""

PRESETS = {preset.name: preset for preset in (IMOS_R50, IMOS_COMPACT)}
"""Presets by name."""
