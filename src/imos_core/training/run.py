"""The training loop: one phase, resumable, by the clock."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from imos_core.config import PRESETS
from imos_core.data.batches import Batch, ClipBatches
from imos_core.data.clips import ClipConfig
from imos_core.data.sources import SequenceSource, StaticSource, SyntheticSource
from imos_core.device import pick_device
from imos_core.errors import FileError
from imos_core.model import IMOS
from imos_core.training.config import TrainConfig, read_config
from imos_core.training.unroll import training_pass
from imos_core.weights import read_state, save_weights

if TYPE_CHECKING:
    from imos_core.data.sources import Source


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
        Weights to start from (``.safetensors``), or a checkpoint of this loop (``.pt``) to go on
        with, optimiser and all.
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
        config = replace(config, minutes=minutes)
    folder = Path(output or f"runs/{path.stem}")
    folder.mkdir(parents=True, exist_ok=True)
    where = pick_device(device)
    if "RANK" in os.environ and not dist.is_initialized():
        # started by torchrun: one process per GPU, or per processor core
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
        if where.type == "cuda":
            where = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        else:
            torch.set_num_threads(max((os.cpu_count() or 1) // dist.get_world_size(), 1))
    try:
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
        model = IMOS(PRESETS[config.model]).to(device)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model
        self.step = 0
        self.elapsed = 0.0
        checkpoint: dict[str, Any] | None = None
        if resume is not None and resume.endswith(".pt"):
            checkpoint = torch.load(resume, map_location=device, weights_only=True)
            model.load_state_dict(checkpoint["model"])
        elif resume is not None:
            model.load_state_dict(read_state(Path(resume)), strict=False)
        self.average = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(config.average), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            model.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        if checkpoint is not None:
            self.average.module.load_state_dict(checkpoint["average"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.step, self.elapsed = checkpoint["step"], checkpoint["elapsed"]
        # the same choices on every process keep their steps equally long
        self.generator = torch.Generator().manual_seed(config.seed + self.step)

    def run(self) -> Path:
        config = self.config
        loader = DataLoader(
            ClipBatches(
                _sources(config),
                ClipConfig(config.frames, config.size, config.max_skip, endings=config.endings),
                max(config.batch_size // self.world, 1),
                config.seed + self.step + 7919 * self.rank,
            ),
            batch_size=None,
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
        )
        log_path = self.folder / "log.csv"
        started, saved = time.monotonic() - self.elapsed, time.monotonic()
        total = config.minutes * 60
        with (
            log_path.open("a", newline="") as log,
            tqdm(
                total=round(total), unit="s", initial=round(self.elapsed), disable=self.rank > 0
            ) as bar,
        ):
            writer = csv.writer(log)
            for batch in loader:
                self.elapsed = time.monotonic() - started
                progress = self._shared(self.elapsed / total)
                if progress >= 1:
                    break
                loss, jaccard, rate = self._update(batch, progress)
                if self.rank > 0:
                    self.step += 1
                    continue
                writer.writerow(
                    [
                        self.step,
                        f"{self.elapsed:.1f}",
                        f"{loss:.4f}",
                        f"{jaccard:.4f}",
                        f"{rate:.2e}",
                    ]
                )
                self.step += 1
                bar.set_postfix_str(f"step {self.step} loss {loss:.3f} J {jaccard:.3f}", False)
                bar.update(round(self.elapsed) - bar.n)
                if time.monotonic() - saved > 60 * config.save_minutes:
                    saved = time.monotonic()
                    log.flush()
                    self._save()
        return self._save()

    def _shared(self, value: float) -> float:
        """Agree on the value of the first process."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, 0)
        return float(tensor)

    def _average_gradients(self) -> None:
        """Mean of the gradients of all processes, in one message."""
        if self.world == 1:
            return
        gradients = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in self.model.parameters()
        ]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        pieces = flat.split([g.numel() for g in gradients])
        for parameter, piece in zip(self.model.parameters(), pieces, strict=True):
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
        if config.train_norms and progress < 0.5:
            # later the norms rest, as they do at inference
            for module in self.model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.train()
        batch = Batch(*(x.to(self.device, non_blocking=True) for x in batch))
        # in thousandths of the phase, as the schedule follows the clock
        iteration = round(progress * 1000)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            result = training_pass(
                self.model,
                batch,
                iteration=iteration,
                warm_up=(round(config.mine_from * 1000), round(config.mine_to * 1000)),
                references=config.references,
                generator=self.generator,
            )
        loss = result.loss / (batch.frames.shape[1] - 1)
        value = float(loss.detach())
        # a loss that is no number must not stop the other processes, nor reach the weights
        if math.isfinite(value):
            loss.backward()
        else:
            self.optimizer.zero_grad(set_to_none=True)
        self._average_gradients()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_gradient)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)
        return value, result.jaccard, rate

    def _save(self) -> Path:
        weights = self.folder / "weights.safetensors"
        if self.rank > 0:
            return weights
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "elapsed": self.elapsed,
            },
            self.folder / "checkpoint.pt",
        )
        network: IMOS = self.average.module  # type: ignore[assignment]
        save_weights(network, weights, {"steps": str(self.step), "model": self.config.model})
        return weights


def _sources(config: TrainConfig) -> list[tuple[Source, float]]:
    """Open what the configuration names, with how often each is drawn."""
    weights = dict(config.weights or {"static": 1.0, "sequences": 1.0, "synthetic": 0.3})
    sources: list[tuple[Source, float]] = []
    if config.static and weights.get("static", 0) > 0:
        sources.append((StaticSource(Path(config.static)), weights["static"]))
    if config.sequences and weights.get("sequences", 0) > 0:
        folder = Path(config.sequences)
        names = _allowed(folder, config.licences)
        sources.append((SequenceSource(folder, names), weights["sequences"]))
    if weights.get("synthetic", 0) > 0:
        sources.append((SyntheticSource(), weights["synthetic"]))
    if not sources:
        raise FileError("The configuration names no training material: set static or sequences.")
    return sources


def _allowed(folder: Path, licences: tuple[str, ...]) -> set[str] | None:
    """Names of the sequences whose licence class is allowed, or None without a manifest."""
    manifest = folder.parent / "manifest.json"
    if not manifest.exists():
        return None
    entries = json.loads(manifest.read_text())
    return {e["name"] for e in entries if e["use"] in licences}
