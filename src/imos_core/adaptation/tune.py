"""adapt(): tune the adapters of a network to one image, from a few painted slices, by the clock."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeVar

import numpy as np
import torch

from imos_core.adaptation.check import Check, plan_check
from imos_core.device import (
    arithmetic,
    check_place,
    check_weights,
    flushing_denormals,
    precision_name,
)
from imos_core.errors import PromptError, PropagationError
from imos_core.model import IMOS
from imos_core.precision import lowered
from imos_core.segmented import check_cancel
from imos_core.training.unroll import training_pass
from imos_core.weights import load_model, save_adapter
from imos_core.whole_numbers import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike

    import numpy.typing as npt
    from torch import Tensor

    from imos_core.adaptation.clips import PaintedClips
    from imos_core.segmented import Cancel

_Slice = TypeVar("_Slice", bound=SupportsIndex)

_BATCH = 2
_GATE_RATE, _ADAPTER_RATE, _HEAD_RATE = 2e-2, 2e-3, 2e-4
_CLIP_GRADIENT = 1.0
_CHECKING = 0.12
"""Share of the time that one check may take."""
_GAIN = 0.002
"""J&F by which tuning must win on what was held back; less than that is chance."""


@dataclass(frozen=True)
class AdaptProgress:
    """Where `adapt` is."""

    stage: Literal["check", "tune"]
    """Whether it propagates to what is held back, or learns."""
    step: int
    """Steps of learning so far."""
    loss: float
    """Loss of the latest step; NaN before the first one."""
    elapsed: float
    """Seconds since the start."""
    seconds: float
    """Seconds that there are."""


@dataclass(frozen=True)
class Adaptation:
    """Outcome of `adapt`."""

    model: IMOS = field(repr=False)
    """Network to propagate with: tuned, or the base where tuning did not help."""
    better: bool
    """Whether tuning won on what was held back."""
    before: float
    """J&F of the base on what was held back; NaN if it was not measured."""
    after: float
    """J&F of the tuned network there."""
    held_back: Literal["slices", "clips"]
    """What was held back: painted slices, or, of a single one, other self-made sequences."""
    count: int
    """How many of them."""
    painted: int
    """Painted slices given."""
    losses: tuple[float, ...] = field(repr=False)
    """Loss of every step."""
    tensors: Mapping[str, Tensor] = field(repr=False)
    """What was tuned, by name; empty where the base is kept."""
    base: IMOS = field(repr=False)
    """Network that was tuned."""

    @property
    def message(self) -> str:
        """One sentence for people."""
        what = "slice" if self.held_back == "slices" else "self-made sequence"
        many = f"{self.count} {what}{'' if self.count == 1 else 's'}"
        if not self.losses and not np.isnan(self.before):
            return "the time was over before anything was learned: base kept, give more seconds"
        if np.isnan(self.before) or np.isnan(self.after):
            return "tuning was stopped before it could be checked: base kept"
        scores = f"held-back J&F {self.before:.3f} -> {self.after:.3f} ({many})"
        return f"{scores}: adapter {'written' if self.better else 'not better, base kept'}"

    def save(self, path: str | PathLike[str]) -> None:
        """Write an adapter file for `load_model` and ``imos propagate --adapter``.

        Where the base is kept, the file holds no tensors: with it, the base does what it does
        without.

        Raises
        ------
        FileError
            If it cannot be written, or something other than an adapter is there.
        """
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "slices": str(self.painted),
            "held_back": f"{self.count} {self.held_back}",
            "j_and_f_before": f"{self.before:.4f}",
            "j_and_f_after": f"{self.after:.4f}",
            "steps": str(len(self.losses)),
            "kept": "adapter" if self.better else "base",
        }
        save_adapter(self.tensors, self.base, path, facts)


def adapt(
    image: Any,
    prompts: Mapping[_Slice, npt.ArrayLike],
    *,
    axis: SupportsIndex = 0,
    labels: SupportsIndex | Iterable[SupportsIndex] | None = None,
    model: str | PathLike[str] | IMOS = "imos-compact",
    device: str = "auto",
    precision: str | torch.dtype = "auto",
    contrast: Sequence[float] | npt.NDArray[Any] | None = None,
    spacing: Sequence[float] | npt.NDArray[Any] | None = None,
    channels_last: bool = False,
    seconds: float = 120.0,
    seed: int = 0,
    cancel: Cancel | None = None,
    progress: Callable[[AdaptProgress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Adaptation:
    """Tune a network to one image, from one to a handful of painted slices.

    It learns from self-made sequences: painted slices set in motion, and walks from painted slice
    to painted slice. The adapters of both encoders learn, and, as in the paper, key projection and
    decoder; new adapters start with their gates closed, hence as the base. Some painted slices are
    held back, propagated to with the base and with the tuned network, and then learned from too;
    of a single slice, other self-made sequences are. Unless tuning wins there, the base is kept.

    Parameters
    ----------
    image, prompts, axis, labels, model, device, precision, contrast, spacing, channels_last
        As in `propagate`; with precision ``"int8"`` only what is propagated has eight bits.
    seconds : float
        Time that it may take.
    seed : int
        Seed of everything random; the same seed and number of steps give the same network.
    cancel : object with `is_set`, optional
        Checked between steps; when set, the base is kept.
    progress : callable, optional
        Called after every step with an `AdaptProgress`.
    clock : callable
        What measures the time, in seconds.

    Returns
    -------
    Adaptation
        Network, scores and losses.

    Raises
    ------
    PromptError, ImageError, WeightsError, DeviceError, FileError
        At the call, if something does not fit.
    PropagationError
        If the computation fails.
    """
    if not (isinstance(seconds, Real) and np.isfinite(seconds) and seconds > 0):
        raise PromptError(f"{seconds!r} seconds are no time to learn in: give some, such as 120.")
    seed = whole(seed, "seed")
    if seed < 0:
        raise PromptError(f"A seed is a whole number from 0, not {seed}.")
    check_cancel(cancel)
    started = clock()
    # whatever mode the caller is in, this learns
    with torch.inference_mode(False), torch.enable_grad():
        if isinstance(model, IMOS):
            check_place(model, device)
            base = model
        else:
            base = load_model(model, device=device)
        check_weights(base)
        check = plan_check(
            image,
            prompts,
            axis=axis,
            labels=labels,
            precision=precision,
            contrast=contrast,
            spacing=spacing,
            channels_last=channels_last,
            seed=seed,
            clock=clock,
        )
        name = precision_name(precision)
        run = _Run(base, check, seconds, seed, cancel, progress, clock, started, name)
        try:
            return run.adapt()
        except torch.OutOfMemoryError as error:
            raise PropagationError(
                'The device ran out of memory: adapt with device="cpu".'
            ) from error
        except RuntimeError as error:
            raise PropagationError(f"The computation failed: {error}") from error


class _Stopped(Exception):
    """Cancelled."""


@dataclass
class _Run:
    """One call of `adapt`, all of it checked."""

    base: IMOS
    check: Check
    seconds: float
    seed: int
    cancel: Cancel | None
    progress: Callable[[AdaptProgress], None] | None
    clock: Callable[[], float]
    started: float
    precision: str
    losses: list[float] = field(default_factory=list)

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.cancel is not None and self.cancel.is_set()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    def adapt(self) -> Adaptation:
        """Check, learn, check again, and learn from what was held back too."""
        before = after = float("nan")
        tuned = with_adapters(self.base, self.seed)
        better = False
        try:
            self._report("check")
            # the base's walk to what is held back also labels the slices on its way
            before = self.check.score_base(self.base, self, _CHECKING * self.seconds)
            self._report("check")
            tuner = _Tuner(tuned, self)
            left = self.seconds - self.elapsed - 1.3 * self.check.seconds
            clips = self.check.clips(self.base, all_painted=False)
            self._tune(tuner, clips, self.elapsed + self._share * left)
            if not self.losses:
                return self._outcome(None, before, after)
            self._report("check")
            after = self.check.score(self._rested(tuned), self)
            self._report("check")
            better = after > before + _GAIN
            if better and self.check.held_back:
                tuned.train()
                clips = self.check.clips(self.base, all_painted=True)
                self._tune(tuner, clips, self.seconds)
        except _Stopped:
            better = False
        return self._outcome(tuned if better else None, before, after)

    def _rested(self, tuned: IMOS) -> IMOS:
        """Tuned network as it will be used: its activations are taken to reach as far as before."""
        tuned.activations = self.base.activations
        return tuned.eval()

    @property
    def _share(self) -> float:
        """Share of the time before the check; the rest is for what was held back."""
        return 0.6 if self.check.held_back else 1.0

    def _tune(self, tuner: _Tuner, clips: PaintedClips, until: float) -> None:
        begin, step = self.elapsed, 0.0
        while True:
            now = self.elapsed
            if self.is_set():
                raise _Stopped
            if now + step >= until:  # the next step would end too late
                return
            self.losses.append(tuner.step(clips, (now - begin) / max(until - begin, 1e-6)))
            step = self.elapsed - now
            self._report("tune")

    def _report(self, stage: Literal["check", "tune"]) -> None:
        if self.is_set():
            raise _Stopped
        if self.progress is not None:
            loss = self.losses[-1] if self.losses else float("nan")
            elapsed = self.elapsed
            self.progress(AdaptProgress(stage, len(self.losses), loss, elapsed, self.seconds))

    def _outcome(self, tuned: IMOS | None, before: float, after: float) -> Adaptation:
        tensors: dict[str, Tensor] = {}
        if tuned is not None:
            self._rested(tuned).requires_grad_(False)
            known = self.base.state_dict()
            tensors = {
                k: v
                for k, v in tuned.state_dict().items()
                if k not in known or not torch.equal(v, known[k])
            }
        return Adaptation(
            self.base if tuned is None else tuned,
            tuned is not None,
            before,
            after,
            self.check.kind,
            self.check.count,
            len(self.check.painted),
            tuple(self.losses),
            tensors,
            self.base,
        )


class _Tuner:
    """Optimiser of what may learn."""

    def __init__(self, model: IMOS, run: _Run) -> None:
        self._model = model.train()
        parameters = learning(model)
        rates = (_GATE_RATE, _ADAPTER_RATE, _HEAD_RATE)
        groups = [
            {"params": p, "lr": rate, "peak": rate}
            for p, rate in zip(parameters, rates, strict=True)
        ]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.99))
        self._all = [p for some in parameters for p in some]
        self._rng = np.random.default_rng(run.seed)
        self._generator = torch.Generator().manual_seed(run.seed)
        device = self._all[0].device
        # nothing is learned in eight bits
        dtype = arithmetic("auto" if run.precision == "int8" else run.precision, device)
        self._lowered = lowered(device, dtype)

    def step(self, clips: PaintedClips, progress: float) -> float:
        """Learn from one batch; `progress` 0..1 sets the pace."""
        warm_up = min(progress / 0.1, 1.0)
        pace = max(warm_up * 0.5 * (1 + np.cos(np.pi * progress)), 0.01)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * pace
        batch = clips.batch(_BATCH, self._rng)
        self._optimizer.zero_grad()
        with flushing_denormals():
            with self._lowered:
                # all pixels count: the hardest 15 % of a thing so small are its noise
                result = training_pass(
                    self._model, batch, iteration=0, warm_up=(1, 2), generator=self._generator
                )
            result.loss.backward()
        torch.nn.utils.clip_grad_norm_(self._all, _CLIP_GRADIENT)
        self._optimizer.step()
        return float(result.loss.detach())


def with_adapters(base: IMOS, seed: int = 0) -> IMOS:
    """Copy a network; where it has no adapters, add some that do nothing yet, drawn by a seed."""
    if base.config.adapters:
        return copy.deepcopy(base)
    device = next(base.parameters()).device
    with torch.device("meta"):
        model = IMOS(replace(base.config, adapters=True))
    model = model.float().to_empty(device="cpu")
    # modules draw from the generator that belongs to everybody: it is put back
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, module in model.named_modules():
            if ".adapter." in name:
                module.reset_parameters()
    model.load_state_dict(base.state_dict(), strict=False)
    for name, parameter in model.named_parameters():
        if name.endswith(".adapter.gate"):
            parameter.data.zero_()
    model = model.to(device)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def learning(model: IMOS) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Let learn what may: gates, the rest of the adapters, key projection and decoder."""
    gates: list[Tensor] = []
    adapters: list[Tensor] = []
    head: list[Tensor] = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if name.endswith(".adapter.gate"):
            gates.append(parameter)
        elif ".adapter." in name:
            adapters.append(parameter)
        elif name.startswith(("key_proj.", "decoder.")):
            head.append(parameter)
    for some in (gates, adapters, head):
        for tensor in some:
            tensor.requires_grad_(True)
    return gates, adapters, head
