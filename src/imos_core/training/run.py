"""The training loop: one phase, resumable, by the clock or by steps."""

from __future__ import annotations

import math
import os
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from imos_core.adapter_headers import refuse_adapter
from imos_core.data.batches import Batch, ClipBatches, sound
from imos_core.device import arithmetic, flushing_denormals, pick_device
from imos_core.errors import WeightsError
from imos_core.model.adapter import adapter_state_dict
from imos_core.precision import lowered
from imos_core.tensor_files import read_state
from imos_core.training.checkpoints import phase_of, read_checkpoint
from imos_core.training.config import TrainConfig, read_config
from imos_core.training.folder import run_folder
from imos_core.training.log import CsvLog
from imos_core.training.overflow import overflow_pass
from imos_core.training.phases import base_of, network_of, sources_of
from imos_core.training.unroll import training_pass
from imos_core.training.validation import balanced_score, check_validation, log_validation, validate
from imos_core.weights import name_of, save_adapter, save_weights, weights_file
from imos_core.whole_files import swapped_in

if TYPE_CHECKING:
    from torch import Tensor

    from imos_core.model import IMOS

_COLUMNS = ("step", "seconds", "loss", "jaccard", "rate")
_WEIGHT_DECAY = 0.05
_LARGEST_GRADIENT = 1.0


def main(
    config_path: str,
    *,
    resume: str | None = None,
    device: str = "auto",
    minutes: float | None = None,
    output: str | None = None,
) -> Path:
    """Train one phase.

    Parameters
    ----------
    config_path : str
        TOML file of a `TrainConfig`.
    resume : str, optional
        Weights to start from (``.safetensors``, or the name of a model), or a checkpoint of this
        loop (``.pt``) to go on with, optimiser and all.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    minutes : float, optional
        Overrides the length of the phase.
    output : str, optional
        Folder for weights, checkpoint and log; by default named after the configuration.

    Returns
    -------
    Path
        The weights file.
    """
    path = Path(config_path)
    config = read_config(path)
    if minutes is not None:
        config = replace(config, minutes=minutes, steps=0)
    return train(config, Path(output or f"runs/{path.stem}"), resume=resume, device=device)


def train(
    config: TrainConfig, folder: Path, *, resume: str | None = None, device: str = "auto"
) -> Path:
    """Train one phase that is at hand as a `TrainConfig`; see `main`."""
    with run_folder(folder, resume):
        return _train(config, folder, resume, device)


def _train(config: TrainConfig, folder: Path, resume: str | None, device: str) -> Path:
    where = pick_device(device)
    if "RANK" in os.environ and not dist.is_initialized():
        # started by torchrun: one process per GPU, or per processor core; the others wait while
        # the first one validates
        dist.init_process_group(
            "nccl" if where.type == "cuda" else "gloo", timeout=timedelta(hours=2)
        )
        if where.type == "cuda":
            where = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(where)
        else:
            torch.set_num_threads(max((os.cpu_count() or 1) // dist.get_world_size(), 1))
    try:
        with flushing_denormals():
            return _Trainer(config, where, folder, resume).run()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class _Trainer:
    def __init__(
        self, config: TrainConfig, device: torch.device, folder: Path, resume: str | None
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device, self.folder = config, device, folder
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.step, self.elapsed, self.best = 0, 0.0, -1.0
        self.base: IMOS | None = None
        self.validated: tuple[str, ...] = ()
        origin = None if resume is None else weights_file(resume)
        checkpoint: dict[str, Any] | None = None
        if origin is not None and origin.suffix == ".pt":
            checkpoint = read_checkpoint(origin)
            if checkpoint.get("phase", phase_of(config)) != phase_of(config):
                raise WeightsError(
                    f"{origin} is of another phase: start from its weights.safetensors instead."
                )
            model, _ = network_of(config, checkpoint["model"], origin)
            base = checkpoint.get("base")
        else:
            base = None if origin is None else read_state(origin)
            if origin is not None:
                refuse_adapter(origin)
            model, fresh = network_of(config, base, origin)
            if fresh and self.rank == 0:
                tqdm.write(
                    f"{len(fresh)} tensors start anew, as {origin} lacks them: {fresh[0]}, ..."
                )
        if config.trainable == "adapters":
            self.base = base_of(config, base, origin)
            if checkpoint is not None:
                self.base.origin = checkpoint.get("base_file", "")
            elif origin is not None:
                self.base.origin = name_of(origin)
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(config.average), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), config.learning_rate, weight_decay=_WEIGHT_DECAY
        )
        # the same choices on every process keep their steps equally long
        self.generator = torch.Generator().manual_seed(config.seed)
        if checkpoint is not None:
            self.average.module.load_state_dict(checkpoint["average"])
            self.average.n_averaged.fill_(checkpoint["step"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.step, self.elapsed = checkpoint["step"], checkpoint["elapsed"]
            self.best = checkpoint.get("best", -1.0)
            if "generator" in checkpoint:
                self.generator.set_state(checkpoint["generator"].cpu())
        native = arithmetic("auto", device) is torch.bfloat16
        self.dtype = torch.bfloat16 if config.bfloat16 and native else torch.float32

    def run(self) -> Path:
        config = self.config
        if config.validation:
            self.validated = check_validation(Path(config.validation), config.modalities)
            lacking = [m for m in config.modalities if m not in self.validated]
            if lacking and self.rank == 0:
                tqdm.write(
                    f"{config.validation} has no sequences of {', '.join(lacking)}: not validated"
                )
        loader = DataLoader(
            ClipBatches(
                sources_of(config),
                config,
                max(config.batch_size // self.world, 1),
                config.seed + 7919 * self.rank,
                start=self.step,
            ),
            batch_size=None,
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
        )
        started = time.monotonic() - self.elapsed
        saved = validated = time.monotonic()
        log_path = self.folder / "log.csv"
        with (
            CsvLog(log_path, _COLUMNS, self.step) if self.rank == 0 else nullcontext() as log,
            self._bar() as bar,
        ):
            for batch in sound(loader):
                self.elapsed = time.monotonic() - started
                progress = self._progress()
                if progress >= 1:
                    break
                loss, jaccard, rate = self._update(batch, progress)
                row = (
                    self.step,
                    f"{self.elapsed:.1f}",
                    f"{loss:.4f}",
                    f"{jaccard:.4f}",
                    f"{rate:.2e}",
                )
                self.step += 1
                if log is None:
                    continue
                log.write(*row)
                bar.set_postfix_str(f"step {row[0]} loss {loss:.3f} J {jaccard:.3f}", False)
                bar.update((self.step if config.steps else round(self.elapsed)) - bar.n)
                due = time.monotonic() - validated > 60 * config.validation_minutes
                # whatever becomes of the validation, no weights are lost
                if due or time.monotonic() - saved > 60 * config.save_minutes:
                    saved = time.monotonic()
                    log.flush()
                    self._save()
                if due:
                    self._validate()
                    validated = time.monotonic()
        if self.rank == 0:
            self._save()
            self._validate()
        return self.folder / "weights.safetensors"

    def _bar(self) -> tqdm[Any]:
        steps, seconds = self.config.steps, round(self.config.minutes * 60)
        return tqdm(
            total=steps or seconds,
            unit="step" if steps else "s",
            initial=self.step if steps else round(self.elapsed),
            disable=self.rank > 0,
        )

    def _progress(self) -> float:
        """Share of the phase that is done: by steps, or by the first process's clock."""
        if self.config.steps:
            return self.step / self.config.steps
        value = self.elapsed / (self.config.minutes * 60)
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, 0)
        return float(tensor)

    def _average_gradients(self) -> None:
        """Mean of the gradients of all processes, in one message."""
        if self.world == 1:
            return
        # frozen parameters get no gradient, not even 0, or the optimiser would decay them
        learning = [p for p in self.model.parameters() if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        pieces = flat.split([g.numel() for g in gradients])
        for parameter, piece in zip(learning, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    def _update(self, batch: Batch, progress: float) -> tuple[float, float, float]:
        config = self.config
        rate = config.learning_rate * (
            config.final_rate
            + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
        )
        rate *= min(1.0, (self.step + 1) / max(config.warm_up_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        norms: list[torch.nn.BatchNorm2d] = []
        if config.train_norms and config.trainable == "all" and progress < 0.5:
            # later the norms rest, as they do at inference
            norms = [m for m in self.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.train()
        batch = Batch(*(x.to(self.device, non_blocking=True) for x in batch))
        before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
        loss, jaccard = self._pass(batch, progress)
        # a loss that is no number must not stop the other processes, nor reach the weights or norms
        if not math.isfinite(loss):
            self.optimizer.zero_grad(set_to_none=True)
            for buffer, value in before:
                buffer.copy_(value)
        self._average_gradients()
        length = torch.nn.utils.clip_grad_norm_(self.model.parameters(), _LARGEST_GRADIENT)
        # of a gradient that is infinite somewhere, clipping makes no number
        if length.isfinite():
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)
        return loss, jaccard, rate

    def _pass(self, batch: Batch, progress: float) -> tuple[float, float]:
        """Loss per frame, whose gradient is added up if it is finite, and Jaccard index."""
        config = self.config
        # in thousandths of the phase, as the schedule may follow the clock
        iteration = round(progress * 1000)
        warm_up = (round(config.mine_from * 1000), round(config.mine_to * 1000))
        steps = batch.frames.shape[1] - 1
        with lowered(self.device, self.dtype):
            if config.memory is not None:
                long = overflow_pass(
                    self.model,
                    batch,
                    _backward,
                    memory=config.memory,
                    truncate=config.truncate,
                    iteration=iteration,
                    warm_up=warm_up,
                )
                return float(long.loss) / steps, long.jaccard
            result = training_pass(
                self.model,
                batch,
                iteration=iteration,
                warm_up=warm_up,
                references=config.references,
                enclosed=config.enclosed,
                generator=self.generator,
            )
        loss = result.loss / steps
        _backward(loss)
        return float(loss.detach()), result.jaccard

    def _validate(self) -> None:
        """Score the averaged weights; keep the best."""
        config = self.config
        if not config.validation:
            return
        results = validate(
            self._averaged,
            Path(config.validation),
            max_objects=config.validation_objects,
            modalities=self.validated,
            device=str(self.device),
        )
        log_validation(self.folder / "validation.csv", self.step, self.elapsed, results)
        score = balanced_score(results)
        known = f", best so far {self.best:.3f}" if self.best >= 0 else ""
        after = f"{self.step} step{'' if self.step == 1 else 's'}"
        tqdm.write(f"J&F on validation after {after}: {score:.3f}{known}")
        if score > self.best:
            self.best = score
            self._write("best")
            self._save()  # a run that goes on knows what it has to beat

    @property
    def _averaged(self) -> IMOS:
        network: IMOS = self.average.module  # type: ignore[assignment]
        return network

    def _save(self) -> None:
        checkpoint = {
            "phase": phase_of(self.config),
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "elapsed": self.elapsed,
            "best": self.best,
            "base": None if self.base is None else self.base.state_dict(),
            "base_file": "" if self.base is None else self.base.origin,
        }
        # it refuses numbers that are not finite, from which no checkpoint could go on
        self._write("weights")
        with swapped_in(self.folder / "checkpoint.pt") as partial:
            torch.save(checkpoint, partial)

    def _write(self, name: str) -> None:
        """Write the averaged weights, and the adapter by itself if nothing else has learned."""
        own = " (shape of its own)" if self.config.shape else ""
        facts = {"steps": str(self.step), "model": f"{self.config.model}{own}"}
        save_weights(self._averaged, self.folder / f"{name}.safetensors", facts)
        if self.base is not None:
            path = self.folder / f"{name}-adapter.safetensors"
            facts = {**facts, "modality": ", ".join(self.config.modalities)}
            save_adapter(adapter_state_dict(self._averaged), self.base, path, facts)


def _backward(loss: Tensor) -> None:
    if math.isfinite(float(loss.detach())):
        loss.backward()
