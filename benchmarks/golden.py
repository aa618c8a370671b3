"""Compare network, memory and losses with golden vectors of the reference, number by number.

Run ``python benchmarks/golden.py FOLDER``; FOLDER holds ``golden_weights.py`` and the archives
``xmem_golden.npz``, ``imos_golden.npz`` and ``metrics_golden.npz``. One line per scenario gives the
largest difference; the exit status is 0 only if everything holds.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from imos_core import affinity, metrics
from imos_core.config import IMOS_R50, MemoryConfig
from imos_core.memory import TokenStore
from imos_core.memory.long_term import consolidate
from imos_core.model import IMOS, QueryFeatures, soft_aggregate
from imos_core.model.adapter import adapter_state_dict, freeze_encoders
from imos_core.propagator import Propagator
from imos_core.training.losses import bootstrapped_cross_entropy, dice_loss

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    import numpy.typing as npt

    Archive = Mapping[str, npt.NDArray[Any]]

MODULE_LIMIT = 1e-3
"""Largest absolute difference of module outputs, beside 1e-4 of the value."""
HALF_STEP = 2.0**-12
"""Largest rounding error of a probability that is stored as float16."""
UNIT_LIMIT = 1e-5
"""Largest difference of arithmetic on small arrays."""

PARAMETERS = {
    "key_encoder": 8_543_296,
    "value_encoder": 22_694_915,
    "value_encoder.fuser": 18_910_339,
    "value_encoder.hidden_reinforce": 995_520,
    "key_proj": 1_188_993,
    "decoder": 29_758_020,
    "decoder.fuser": 21_859_459,
    "decoder.hidden_update": 816_320,
    "decoder.up_16_8": 5_309_696,
    "decoder.up_8_4": 1_770_240,
    "decoder.pred": 2_305,
    "": 62_185_224,
}
ADAPTERS = {"key_encoder": 2_128_093, "value_encoder": 777_510, "": 2_905_603}
TENSORS = {"xmem": 412, "imos": 697}
TRAINABLE = 33_852_616


@dataclass(frozen=True)
class Scenario:
    """One propagation of the golden video."""

    rows: slice
    columns: slice
    frames: int
    given: dict[int, tuple[int, ...]]
    """Frame to the labels whose masks are given there."""
    memory: MemoryConfig
    limit: float = 1e-4
    """Largest difference of probabilities; larger where they are stored as float16."""
    excluded: tuple[int, ...] = ()
    """Frames of which the reference is known to be wrong."""
    unaligned: tuple[int, ...] = ()
    """Frames after which the late group's sizes differ, for the same reason."""
    reason: str = field(default="", compare=False)


_ALIGNMENT = (
    "REFERENCE.md section 10, quirk 1: the reference reads the late object's first value through "
    "the key of frame 0"
)
SCENARIOS = {
    "A": Scenario(
        slice(0, 96), slice(0, 128), 12, {0: (1, 2), 5: (3,)},
        MemoryConfig(2, 2, 3, 16, 1000),
        excluded=(8, 9, 10, 11), unaligned=(7, 8, 9, 10, 11), reason=_ALIGNMENT,
    ),
    "B": Scenario(
        slice(2, 93), slice(3, 124), 12, {0: (1, 2)}, MemoryConfig(1, 2, 3, 12, 41)
    ),
    "C": Scenario(
        slice(0, 96), slice(0, 128), 9, {0: (1, 2), 5: (3,)},
        MemoryConfig(1, 3, 5, 16, 1000), limit=1e-4 + HALF_STEP,
    ),
    "D": Scenario(
        slice(0, 96), slice(0, 96), 9, {0: (1,)},
        MemoryConfig(2, long_term=False, deep_update_every=3), limit=1e-4 + HALF_STEP,
    ),
    "E": Scenario(
        slice(0, 96), slice(0, 96), 12, {0: (1,)}, MemoryConfig(), limit=1e-4 + HALF_STEP
    ),
}  # fmt: skip


class Report:
    """Collects checks under a heading and writes one line for each heading."""

    def __init__(self) -> None:
        self.holds = True

    def line(self, name: str, difference: float, failures: list[str], note: str = "") -> None:
        """Write the outcome of one comparison."""
        self.holds &= not failures
        verdict = "FAILED: " + "; ".join(failures) if failures else "holds"
        note = f"  [{note}]" if note else ""
        sys.stdout.write(f"{name:<24} largest difference {difference:8.2e}  {verdict}{note}\n")
        sys.stdout.flush()

    def arrays(self, name: str, pairs: Mapping[str, tuple[Any, Any, float]]) -> None:
        """Compare arrays: `{what: (ours, golden, absolute limit)}`."""
        largest, failures = 0.0, []
        for what, (ours, golden, limit) in pairs.items():
            ours, golden = np.asarray(ours), np.asarray(golden)
            if ours.shape != golden.shape:
                failures.append(f"{what} has shape {ours.shape}, not {golden.shape}")
                continue
            difference = np.abs(ours.astype(np.float64) - golden)
            largest = max(largest, float(difference.max()))
            if not (difference <= limit + 1e-4 * np.abs(golden)).all():
                failures.append(f"{what} differs by {difference.max():.2e}")
        self.line(name, largest, failures, f"{len(pairs)} arrays")


def main(arguments: list[str] | None = None) -> int:
    """Run every comparison; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the golden files")
    folder = parser.parse_args(arguments).folder
    recipe = _import(folder / "golden_weights.py")
    report = Report()
    for name in ("xmem", "imos"):
        with np.load(folder / f"{name}_golden.npz") as archive:
            golden = dict(archive)
        model = _check_weights(report, name, recipe, golden)
        with torch.inference_mode():
            _check_modules(report, name, model, golden)
            for letter, scenario in SCENARIOS.items():
                _check_scenario(report, name, letter, scenario, model, golden)
            if name == "imos":
                _check_adapters(report, model, golden)
    _check_arithmetic(report, golden)
    _check_losses(report, golden)
    _check_metrics(report, folder)
    sys.stdout.write("Everything holds.\n" if report.holds else "Not everything holds.\n")
    return 0 if report.holds else 1


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- weights and modules ----


def _check_weights(report: Report, name: str, recipe: ModuleType, golden: Archive) -> IMOS:
    """Fill a network by the recipe; check names, shapes, values and parameter counts."""
    model = IMOS(replace(IMOS_R50, adapters=name == "imos"))
    state = recipe.fill_state_dict({k: tuple(v.shape) for k, v in model.state_dict().items()})
    failures = []
    if len(state) != TENSORS[name] or len(state) != int(golden["weights_tensors"]):
        failures.append(f"{len(state)} tensors")
    if recipe.digest(state) != str(golden["weights_crc32"]):
        failures.append(f"checksum {recipe.digest(state)}, not {golden['weights_crc32']}")
    model.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    adapters = ADAPTERS if name == "imos" else {}
    for part, expected in PARAMETERS.items():
        expected += adapters.get(part, 0)
        count = sum(p.numel() for p in model.get_submodule(part).parameters())
        if count != expected:
            failures.append(f"{part or 'the network'} has {count} parameters, not {expected}")
    if name == "imos":
        freeze_encoders(model)
        trainable = {k: p.numel() for k, p in model.named_parameters() if p.requires_grad}
        count = sum(trainable.values())
        if count != TRAINABLE:
            failures.append(f"{count} trainable parameters, not {TRAINABLE}")
        count = sum(trainable.get(k, 0) for k in adapter_state_dict(model))
        if count != ADAPTERS[""]:
            failures.append(f"{count} trainable adapter parameters, not {ADAPTERS['']}")
    report.line(f"{name} weights", 0.0, failures, f"{len(state)} tensors, counts, checksum")
    return model


def _check_modules(report: Report, name: str, model: IMOS, golden: Archive) -> None:
    """Memorise frame 0 and segment frame 1, tensor by tensor."""
    video, labels = _normalised(golden["video"], name), golden["labels"]
    frames = [video[i : i + 1] for i in (0, 1)]
    features = [model.encode_query(frame) for frame in frames]
    pairs: dict[str, tuple[Any, Any, float]] = {}
    every = {"key": 1, "shrinkage": 1, "selection": 1, "f16": 4, "f8": 16, "f4": 16}
    for t, frame_features in enumerate(features):
        for what, step in every.items():  # the archives hold every step-th channel
            ours = getattr(frame_features, what)[:, ::step]
            pairs[f"{what}_{t}"] = (ours, golden[f"mod_{what}_{t}"], MODULE_LIMIT)
    masks = soft_aggregate(_one_hot(labels[0], (1, 2))[None])[1][:, 1:]
    empty = model.initial_hidden(frames[0], 2)
    value, deep = model.encode_value(frames[0], features[0].f16, empty, masks)
    readout, usage = _read(features[0], value, features[1])
    logits, normal = model.decode(features[1], readout, deep)
    aggregated, prob = soft_aggregate(torch.sigmoid(logits))
    found = {
        "mask_in": masks, "value": value, "hidden_deep": deep, "readout": readout,
        "usage": usage[:, None], "hidden_normal": normal, "decoder_logits": logits,
        "logits_bg": aggregated, "prob_bg": prob,
    }  # fmt: skip
    for what, ours in found.items():
        limit = 1e-2 if what == "logits_bg" else MODULE_LIMIT
        pairs[what] = (ours, golden[f"mod_{what}"], limit)
    report.arrays(f"{name} modules", pairs)


def _read(
    memory: QueryFeatures, value: torch.Tensor, query: QueryFeatures
) -> tuple[torch.Tensor, torch.Tensor]:
    """Readout and usage of one memory frame."""
    scores = affinity.similarity(
        memory.key.flatten(2),
        memory.shrinkage.flatten(2),
        query.key.flatten(2),
        query.selection.flatten(2),
    )
    attention = affinity.top_k_softmax(scores, 30)
    mixed = affinity.readout(attention, value.flatten(3))
    return mixed.reshape(*mixed.shape[:3], *query.key.shape[-2:]), attention.sum(2)


def _check_adapters(report: Report, model: IMOS, golden: Archive) -> None:
    """Adapters alone, and the residual blocks that they belong to."""
    pairs = {}
    for side in ("key", "value"):
        block = model.get_submodule(f"{side}_encoder.layer2.0")
        for what, module in ((side, block.get_submodule("adapter")), (f"{side}_block", block)):
            ours = module(torch.from_numpy(golden[f"adapter_{what}_in"]))
            pairs[what] = (ours, golden[f"adapter_{what}_out"], MODULE_LIMIT)
    report.arrays("imos adapters", pairs)


# ---- scenarios ----


def _check_scenario(
    report: Report, name: str, letter: str, scenario: Scenario, model: IMOS, golden: Archive
) -> None:
    """Run one propagation and compare every frame."""
    video = _normalised(golden["video"], name)[..., scenario.rows, scenario.columns]
    labels = golden["labels"][:, scenario.rows, scenario.columns]
    propagator = Propagator(model, scenario.memory)
    known: tuple[int, ...] = ()
    largest, failures = 0.0, []
    excluded = []
    for t in range(scenario.frames):
        masks, new = None, scenario.given.get(t)
        if new is not None:
            known += new
            masks = _one_hot(np.where(np.isin(labels[t], new), labels[t], 0), known)
        end = t == scenario.frames - 1
        prob = propagator.step(video[t], masks, new, end=end).numpy()
        expected = golden[f"{letter}_prob"][t, : len(known) + 1].astype(np.float32)
        difference = float(np.abs(prob - expected).max())
        wrong = int((prob.argmax(0) != golden[f"{letter}_mask"][t]).sum())
        if t in scenario.excluded:
            excluded.append(f"{t}: {wrong} pixels")
        else:
            largest = max(largest, difference)
            if difference > scenario.limit:
                failures.append(f"frame {t} differs by {difference:.2e}")
            if wrong:
                failures.append(f"frame {t} has {wrong} differing pixels")
        ours, theirs = _sizes(propagator), golden[f"{letter}_sizes"][t].tolist()
        if t in scenario.unaligned:  # leave out columns 3 and 5, the late group's
            ours, theirs = [*ours[:3], ours[4]], [*theirs[:3], theirs[4]]
        if ours != theirs:
            failures.append(f"memory sizes after frame {t} are {ours}, not {theirs}")
    note = f"{scenario.frames - len(excluded)} frames, memory sizes"
    if excluded:
        note += f"; excluded frames {', '.join(excluded)}, late group's sizes from frame "
        note += f"{scenario.unaligned[0]} on ({scenario.reason})"
    else:
        state = _final_state(propagator, letter, golden)
        failures += [
            f"final {what} differs by {np.abs(ours - theirs).max():.2e}"
            for what, (ours, theirs) in state.items()
            if not np.allclose(ours, theirs, rtol=1e-4, atol=MODULE_LIMIT)
        ]
        note += f", final {' '.join(state)}"
    report.line(f"{name} scenario {letter}", largest, failures, note)


def _final_state(
    propagator: Propagator, letter: str, golden: Archive
) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """What is in memory after the last frame, ours and theirs."""
    memory = propagator.memory
    found = {"hidden_last": memory.sensory.hidden}
    if f"{letter}_long_key" in golden:
        working, long_term = memory.working.tokens, memory.long_term.tokens
        assert working is not None
        assert long_term is not None
        found |= {
            "long_key": long_term.key,
            "long_shrinkage": long_term.shrinkage,
            "long_value": long_term.values[0][0].permute(1, 2, 0),
            "long_usage": long_term.usage[:, None],
            "work_usage": working.usage[:, None],
        }
    return {what: (x.numpy(), golden[f"{letter}_{what}"]) for what, x in found.items()}


def _sizes(propagator: Propagator) -> list[int]:
    """Sizes as in the archives: -1 where a group has nothing."""
    sizes = propagator.memory.sizes
    row = [sizes.working, sizes.long_term]
    for groups in (sizes.working_groups, sizes.long_term_groups):
        row += [count or -1 for count in (*groups, 0, 0)[:2]]
    return row


def _normalised(video: npt.NDArray[np.uint8], name: str) -> torch.Tensor:
    """Frames `(T, 3, H, W)` float32 as the network `name` wants them."""
    x = torch.from_numpy(video).permute(0, 3, 1, 2).float() / 255
    if name == "xmem":
        mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None]
        return (x - mean) / torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    return (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1e-5)


def _one_hot(labels: npt.NDArray[np.uint8], known: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.stack([labels == number for number in known])).float()


# ---- arithmetic ----


def _check_arithmetic(report: Report, golden: Archive) -> None:
    """Similarity, softmax, consolidation and aggregation of small arrays."""
    g = {k: torch.from_numpy(v) for k, v in golden.items() if k.startswith("unit_")}
    key, shrinkage, query, selection = (g[f"unit_{k}"] for k in ("mk", "ms", "qk", "qe"))
    scores = affinity.similarity(key, shrinkage, query, selection)
    top = affinity.top_k_softmax(scores, 5)
    owned = torch.ones(1, 20, dtype=torch.bool)
    # the second group has only the last 12 of 20 tokens
    late = F.pad(g["unit_candidate_value_1"], (8, 0)).permute(2, 0, 1)[None]
    prototypes = consolidate(
        TokenStore(
            key,
            shrinkage,
            g["unit_candidate_selection"],
            (g["unit_candidate_value_0"].permute(2, 0, 1)[None], late),
            (owned, torch.arange(20)[None] >= 8),
            g["unit_candidate_usage"][0],
            torch.ones(1, 20),
        ),
        4,
    )
    aggregated, prob = soft_aggregate(g["unit_prob"][None])
    found = {
        "similarity": scores,
        "similarity_no_selection": affinity.similarity(key, shrinkage, query, None),
        "similarity_no_shrinkage": affinity.similarity(key, None, query, selection),
        "affinity_top5": top,
        "usage_top5": top.sum(2),
        "affinity_full": torch.softmax(scores, dim=1),
        "prototype_key": prototypes.key,
        "prototype_shrinkage": prototypes.shrinkage,
        "prototype_value_0": prototypes.values[0][0].permute(1, 2, 0),
        "prototype_value_1": prototypes.values[1][0][prototypes.valid[1][0]].permute(1, 2, 0),
        "aggregate_logits": aggregated[0],
        "aggregate_prob": prob[0],
    }
    report.arrays("arithmetic", {k: (v, golden[f"unit_{k}"], UNIT_LIMIT) for k, v in found.items()})


def _check_losses(report: Report, golden: Archive) -> None:
    """Bootstrapped cross entropy and dice."""
    logits, target = (torch.from_numpy(golden[f"unit_ce_{k}"]) for k in ("input", "target"))
    pairs: dict[str, tuple[Any, Any, float]] = {}
    for iteration in (0, 20, 45, 70, 71):
        loss, fraction = bootstrapped_cross_entropy(logits, target, iteration, 20, 70)
        what = f"bootstrap_ce_{iteration}"
        pairs[what] = ([float(loss), fraction], golden[f"unit_{what}"], UNIT_LIMIT)
    dice = dice_loss(*(torch.from_numpy(golden[f"unit_dice_{k}"]) for k in ("input", "target")))
    pairs["dice"] = (dice, golden["unit_dice"], UNIT_LIMIT)
    report.arrays("losses", pairs)


def _check_metrics(report: Report, folder: Path) -> None:
    """Region and boundary score of mask pairs."""
    with np.load(folder / "metrics_golden.npz") as archive:
        golden = dict(archive)
    scores: dict[str, list[float]] = {"J": [], "F": []}
    for i, (height, width) in enumerate(golden["shapes"]):
        pair = []
        for side in ("pred_bits", "gt_bits"):
            bits = golden[side][golden["offsets"][i] : golden["offsets"][i + 1]]
            pair.append(np.unpackbits(bits)[: height * width].reshape(height, width).astype(bool))
        scores["J"].append(float(metrics.jaccard(*pair)))
        scores["F"].append(float(metrics.boundary_f(*pair)))
    report.arrays("metrics", {k: (v, golden[k], 1e-6) for k, v in scores.items()})


if __name__ == "__main__":
    sys.exit(main())
