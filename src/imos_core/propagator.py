"""Propagator: one sequence through network and memory, frame by frame (XMem, section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imos_core.errors import PromptError
from imos_core.memory import ThreeTierMemory
from imos_core.model import Guide, QueryFeatures, soft_aggregate
from imos_core.model.network import other_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imos_core.config import MemoryConfig
    from imos_core.model import IMOS


class _Account(NamedTuple):
    """What is known of a frame; all padded."""

    frame: Tensor
    """`(B, 3, H, W)`."""
    features: QueryFeatures
    """Its features."""
    masks: Tensor
    """`(B, n, H, W)` probability of each object."""
    others: Tensor
    """`(B, n, H, W)` probability of all other objects."""


class Propagator:
    """Carry masks through a sequence: `memorize` the painted frame, `segment` the next ones.

    All methods take one sequence, `(3, H, W)` and `(n, H, W)`, or `B` independent ones with an axis
    more in front. Frames are on the network's device and, without autocast, of its weights' type.

    Parameters
    ----------
    model : IMOS
        Network.
    memory : MemoryConfig, optional
        What is remembered, and how often.
    """

    def __init__(self, model: IMOS, memory: MemoryConfig | None = None) -> None:
        self.model = model
        self.memory = ThreeTierMemory(memory)
        self._previous: _Account | None = None
        self._size: torch.Size | None = None
        self._step = -1
        self._last_memorized = 0
        self._last_deep: int | None = None

    @property
    def config(self) -> MemoryConfig:
        """Settings of the memory; may be replaced between frames."""
        return self.memory.config

    @config.setter
    def config(self, config: MemoryConfig) -> None:
        self.memory.config = config

    @property
    def objects(self) -> int:
        """Number of objects that have had a mask so far."""
        return len(self.memory.objects)

    # ---- verbs ----

    @torch.inference_mode()
    def memorize(
        self,
        frame: Tensor,
        masks: Tensor,
        *,
        others: Tensor | None = None,
        permanent: bool = True,
    ) -> None:
        """Store a painted frame, an anchor; the sensory memory starts anew from it.

        Several anchors may be stored one after the other. The last one should be the neighbour of
        the frame that is segmented next.

        Parameters
        ----------
        frame : Tensor
            `(3, H, W)` or `(B, 3, H, W)`, normalised.
        masks : Tensor
            `(n, H, W)` or `(B, n, H, W)` masks or probabilities of all objects so far and new ones,
            without background.
        others : Tensor, optional
            The same for everything that is not the object; by default the other channels' sum.
        permanent : bool
            Whether the frame is never let go; the first one never is.

        Raises
        ------
        PromptError
            If the frame does not serve, or masks do not fit it or lack known objects.
        """
        self._check_frame(frame)
        padded = self._padded(self._checked(masks, frame))
        context = other_objects(padded)
        if others is not None:
            context = self._padded(self._checked(others, frame))
            if context.shape != padded.shape:
                raise PromptError(
                    f"Give others of the {padded.shape[1]} objects of the masks, not of "
                    f"{context.shape[1]}."
                )
        account = _Account(*self._encode(frame), padded, context)
        self._step += 1
        self.memory.sensory.clear()
        self._previous, self._size = account, frame.shape[-2:]
        self._memorize(account, permanent, deep_update=True)

    @torch.inference_mode()
    def segment(self, frame: Tensor) -> Tensor:
        """Segment the next frame, and memorise it if it is its turn.

        Parameters
        ----------
        frame : Tensor
            `(3, H, W)` or `(B, 3, H, W)`, normalised.

        Returns
        -------
        Tensor
            `(n + 1, H, W)` or `(B, n + 1, H, W)` float32 probabilities, background first.

        Raises
        ------
        PromptError
            If nothing was memorised yet, or the frame does not serve.
        """
        probability: Tensor = self.step(frame)
        return probability

    @torch.inference_mode()
    def step(
        self,
        frame: Tensor,
        masks: Tensor | None = None,
        valid: Sequence[int] | None = None,
        *,
        end: bool = False,
        permanent: bool = False,
    ) -> Tensor:
        """Take in the next frame as the reference does, with or without masks for it.

        Parameters
        ----------
        frame : Tensor
            `(3, H, W)` or `(B, 3, H, W)`, normalised.
        masks : Tensor, optional
            `(n, H, W)` or `(B, n, H, W)` given masks, one-hot, of all objects so far and new ones.
        valid : sequence of int, optional
            Which of these objects, counted from 1, the masks speak of; the others keep their
            prediction. By default the masks replace the prediction entirely.
        end : bool
            Whether this is the last frame, which need not be remembered.
        permanent : bool
            Whether the frame, if memorised, is never let go; the first one never is.

        Returns
        -------
        Tensor
            `(n + 1, H, W)` or `(B, n + 1, H, W)` float32 probabilities, background first.

        Raises
        ------
        PromptError
            If the frame does not serve, the first one has no masks, or masks do not fit the
            frame, lack known objects, or have none of those that are `valid`.
        """
        if masks is None and not self.objects:
            raise PromptError("Pass masks with the first frame: there is nothing to segment yet.")
        self._check_frame(frame)
        given = None if masks is None else self._padded(self._checked(masks, frame))
        objects = self.objects if given is None else given.shape[1]
        if valid is not None:
            valid = _checked_valid(valid, 0 if given is None else objects)
        self._step += 1
        due = self._step - self._last_memorized >= self.config.memorize_every
        memorizes = (due or given is not None) and not end
        deep = not end and self._deep_update_is_due(memorizes)
        # in the tied mode, the sensory memory of a memory frame gets the deep update only
        normal = not end and not (deep and self._tied)
        image, features = self._encode(frame)
        probability: Tensor | None = None
        if self.objects and (valid is None or len(valid) != objects):
            probability = self._segment(image, features, normal)
        if given is not None:
            probability = _merge(given, probability, valid)
        assert probability is not None, "without masks, a frame is segmented"
        found = probability[:, 1:]
        self._previous = _Account(image, features, found, other_objects(found))
        self._size = frame.shape[-2:]
        if memorizes:
            self._memorize(self._previous, permanent, deep)
        return self._cropped(probability, frame)

    def select(self, rows: Tensor) -> None:
        """Go on with the sequences `rows` (int64 numbers or bool, along `B`) only."""
        self.memory.select(rows)
        if self._previous is not None:
            frame, features, masks, others = self._previous
            features = QueryFeatures(*(x[rows] for x in features))
            self._previous = _Account(frame[rows], features, masks[rows], others[rows])

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as tensors and plain values."""
        before = self._previous
        return {
            "memory": self.memory.state(),
            "previous": before
            and [before.frame, list(before.features), before.masks, before.others],
            "steps": (self._step, self._last_memorized, self._last_deep),
        }

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Remember what `state` said, on a device."""
        self.memory.load_state(state["memory"], device)
        self._previous = self._size = None
        if state["previous"] is not None:
            frame, features, masks, others = state["previous"]
            found = QueryFeatures(*(x.to(device) for x in features))
            self._previous = _Account(frame.to(device), found, masks.to(device), others.to(device))
        self._step, self._last_memorized, self._last_deep = state["steps"]

    def clear(self) -> None:
        """Forget everything and start a new sequence."""
        self.memory.clear()
        self._previous = self._size = self._last_deep = None
        self._step, self._last_memorized = -1, 0

    # ---- parts ----

    @property
    def _tied(self) -> bool:
        """Whether deep updates happen on memory frames, all of them, in place of normal ones."""
        return self.config.deep_update_every < 0

    def _deep_update_is_due(self, memorizes: bool) -> bool:
        if self._tied:
            return memorizes
        return self._last_deep is None or (
            self._step - self._last_deep >= self.config.deep_update_every
        )

    def _encode(self, frame: Tensor) -> tuple[Tensor, QueryFeatures]:
        """Pad a frame to `(B, 3, H, W)` and encode it."""
        image = self._padded(frame if frame.ndim == 4 else frame[None])
        return image, self.model.encode_query(image)

    def _segment(self, image: Tensor, features: QueryFeatures, update_hidden: bool) -> Tensor:
        """Probabilities `(B, n + 1, H, W)` of a padded frame."""
        sensory = self.memory.sensory
        logits, hidden = self.model.decode(
            features,
            self.memory.read(features.key, features.selection),
            sensory.hidden,
            update_hidden=update_hidden,
            guide=self._guide(image) if self.model.config.guided else None,
        )
        if update_hidden:
            sensory.update(hidden)
        return soft_aggregate(torch.sigmoid(logits.float()))[1]

    def _memorize(self, account: _Account, permanent: bool, deep_update: bool) -> None:
        """Store a frame and what is known of it."""
        frame, features, masks, others = account
        sensory = self.memory.sensory
        sensory.grow(self.model.initial_hidden(frame, masks.shape[1]))
        value, hidden = self.model.encode_value(
            frame,
            features.f16,
            sensory.hidden,
            masks.to(frame.dtype),
            deep_update=deep_update,
            others=others.to(frame.dtype),
        )
        self.memory.write(
            features.key,
            features.shrinkage,
            value,
            features.selection,
            range(1, masks.shape[1] + 1),
            permanent=permanent,
        )
        self._last_memorized = self._step
        if deep_update:
            sensory.update(hidden)
            self._last_deep = self._step

    def _guide(self, image: Tensor) -> Guide:
        """What the guided decoder is shown of the frame before."""
        assert self._previous is not None, "segmenting comes after memorising"
        before, features, masks, others = self._previous
        return Guide(
            previous_frame=before,
            frame=image,
            previous_mask=masks.to(image.dtype),
            previous_others=others.to(image.dtype),
            previous_f4=features.f4,
        )

    def _check_frame(self, frame: Tensor) -> None:
        """Refuse a frame that the network cannot take, or of another size than those before."""
        channels = self.model.channels
        _check_tensor(frame, "A frame")
        wrong = frame.ndim not in (3, 4) or frame.shape[-3] != channels or 0 in frame.shape
        if wrong or not frame.is_floating_point():
            raise PromptError(
                f"A frame is ({channels}, H, W) or (B, {channels}, H, W) of normalised float "
                f"numbers, not {tuple(frame.shape)} of {frame.dtype}."
            )
        weights = next(self.model.parameters())
        kind = weights.device.type
        lowered = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        if frame.device != weights.device or (frame.dtype != weights.dtype and not lowered):
            raise PromptError(
                f"The frame is {frame.dtype} on {frame.device}, but the network {weights.dtype} on "
                f"{weights.device}: give frame.to({str(weights.device)!r}, {weights.dtype})."
            )
        if self._previous is None:
            return
        before, count = self._previous.frame, len(frame) if frame.ndim == 4 else 1
        padded = [n + sum(self._margins(n)) for n in frame.shape[-2:]]
        # of a state that was loaded, the size without padding is not known
        alike = self._size is None or frame.shape[-2:] == self._size
        if padded != list(before.shape[-2:]) or not alike or count != len(before):
            raise PromptError(
                f"A frame of shape {tuple(frame.shape)} does not follow those before: all have "
                "the same height, width and B."
            )

    def _checked(self, masks: Tensor, frame: Tensor) -> Tensor:
        """Masks as `(B, n, H, W)` float, of the frame's size and with all known objects."""
        _check_tensor(masks, "Masks")
        if masks.ndim != frame.ndim or _but_channels(masks) != _but_channels(frame):
            raise PromptError(
                f"Masks of shape {tuple(masks.shape)} do not fit a frame of shape "
                f"{tuple(frame.shape)}: both need the same height and width, and B."
            )
        if masks.device != frame.device:
            raise PromptError(f"Masks are on {masks.device}, but their frame on {frame.device}.")
        expected = max(self.objects, 1)
        if masks.shape[-3] < expected:
            raise PromptError(
                f"Pass masks of all {expected} objects seen so far, not of {masks.shape[-3]}."
            )
        found = (masks if masks.ndim == 4 else masks[None]).float()
        if found.numel() and not bool(((found >= 0) & (found <= 1)).all()):
            raise PromptError("Masks hold numbers from 0 to 1: divide those of 0 and 255 by 255.")
        return found

    def _padded(self, x: Tensor) -> Tensor:
        """Add zeros around `(B, C, H, W)`, so that both sides suit the network."""
        top, bottom = self._margins(x.shape[-2])
        left, right = self._margins(x.shape[-1])
        return F.pad(x, (left, right, top, bottom)) if top or bottom or left or right else x

    def _cropped(self, probability: Tensor, frame: Tensor) -> Tensor:
        """Undo the padding of `frame`, and the axis `B` where `frame` has none."""
        height, width = frame.shape[-2:]
        top, left = self._margins(height)[0], self._margins(width)[0]
        inner = probability[..., top : top + height, left : left + width]
        return inner if frame.ndim == 4 else inner[0]

    def _margins(self, length: int) -> tuple[int, int]:
        """Pixels before and after that make `length` a multiple; the odd one goes after."""
        total = -length % self.model.config.padding
        return total // 2, total - total // 2


def _check_tensor(given: Any, name: str) -> None:
    if not isinstance(given, Tensor):
        raise PromptError(
            f"{name} must be given as a torch.Tensor, not as {type(given).__name__}: use "
            "torch.as_tensor."
        )


def _but_channels(x: Tensor) -> tuple[torch.Size, torch.Size]:
    return x.shape[:-3], x.shape[-2:]


def _checked_valid(valid: Sequence[int], objects: int) -> list[int]:
    """Return objects that masks speak of, each once; they are 1 to `objects`."""
    chosen = sorted({int(i) for i in valid})
    if any(not 1 <= i <= objects for i in chosen):
        raise PromptError(
            f"Masks are given of {objects} objects, so {chosen} cannot be valid: they count from 1."
        )
    return chosen


def _merge(given: Tensor, predicted: Tensor | None, valid: Sequence[int] | None) -> Tensor:
    """Aggregate given masks with the prediction of those objects that they do not speak of."""
    if predicted is not None and valid is not None:
        painted = given.sum(1, keepdim=True) > 0.5
        kept = [i for i in range(predicted.shape[1] - 1) if i + 1 not in valid]
        given = given.clone()
        given[:, kept] = predicted[:, 1:][:, kept].masked_fill(painted, 0.0)
    return soft_aggregate(given)[1]
