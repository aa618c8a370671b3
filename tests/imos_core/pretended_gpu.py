"""A pretended GPU: tensors that say they lie there and hold tensors of the processor.

Mixing both raises, as it does on a real GPU, so that a tensor that is made or left on the wrong
device is found where there is no GPU. It changes how torch works and needs a process of its own:
``python pretended_gpu.py`` propagates with and without it and prints how far the labels agree.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

SENT: Counter[str] = Counter()
"""Operators that have brought anything from one device to the other: a real GPU is waited for."""
_MIXED = {"aten::copy_", "aten::index", "aten::index_put_", "aten::index_put"}
"""Operators that take indices or sources of the processor too."""


class Elsewhere(torch.Tensor):
    """A tensor on the pretended GPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=GPU,
        )
        made.inner = inner
        if inner.dtype == torch.float64:
            raise RuntimeError("Apple's GPUs know no float64")
        return made

    def tolist(self) -> Any:
        """Return plain numbers, which torch would look for in a storage that is not there."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Pretend(TorchDispatchMode):
    """Sees operators, too, that make tensors from nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Compute an operator on the processor, if all it takes lies on one device."""
    name = func._schema.name
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [x for x in given if isinstance(x, Elsewhere)]
    here = [x for x in given if not isinstance(x, Elsewhere) and x.dim()]
    into = name in _MIXED and isinstance(args[0], Elsewhere)
    if there and here and not into and name != "aten::copy_":
        raise RuntimeError(f"{name} was given tensors of both devices")
    if there and "mkldnn" in name:
        raise RuntimeError(f"{name} is the processor's, but was given tensors of the GPU")
    stays = bool(there)
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]).type == GPU.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    read = name == "aten::_local_scalar_dense" and bool(there)
    SENT[name] += read or bool(there and here) or bool(given and stays != bool(there))
    if name == "aten::_thnn_fused_gru_cell":
        return gated(*tree_map(bare, args))
    found = func(*tree_map(bare, args), **tree_map(bare, kwargs))
    written = [
        i for i, a in enumerate(func._schema.arguments) if a.alias_info and a.alias_info.is_write
    ]
    if written and isinstance(found, torch.Tensor):
        return args[written[0]] if written[0] < len(args) else kwargs["out"]
    return tree_map(lambda x: Elsewhere(x) if stays and type(x) is torch.Tensor else x, found)


def bare(x: Any) -> Any:
    """What a pretended tensor holds."""
    return x.inner if isinstance(x, Elsewhere) else x


def gated(inputs: Any, hidden: Any, state: Any, more: Any, still: Any) -> tuple[Any, Any]:
    """Gated recurrent unit, which the processor has no fused operator for."""
    r, z, n = (inputs + more).chunk(3, 1)
    hr, hz, hn = (hidden + still).chunk(3, 1)
    z, n = torch.sigmoid(z + hz), torch.tanh(n + torch.sigmoid(r + hr) * hn)
    return Elsewhere((1 - z) * n + z * state), Elsewhere(torch.zeros(1))


class NoGradient(torch.no_grad):
    """Stands for `torch.inference_mode`, whose tensors cannot be wrapped."""

    def __new__(cls, mode: bool = True) -> NoGradient:
        return object.__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        super().__init__()


def prepare() -> None:
    """Make torch believe in it; before `imos_core` is imported."""
    module = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        _is_in_bad_fork=lambda: False,
        current_device=lambda: 0,
        device_count=lambda: 1,
        manual_seed_all=lambda seed: None,
        get_amp_supported_dtype=lambda: [torch.bfloat16, torch.float16],
    )
    _setup_privateuseone_for_python_backend(backend_module=module)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.inference_mode = NoGradient  # type: ignore[misc, assignment]
    saved, product = torch.save, torch.matmul
    torch.save = lambda what, *rest: saved(tree_map(bare, what), *rest)

    def matmul(a: torch.Tensor, b: torch.Tensor, *, out: Any = None) -> torch.Tensor:
        found = product(a, b)
        return found if out is None else out.copy_(found)

    torch.matmul = matmul


@contextlib.contextmanager
def pretended() -> Any:
    """Compute there."""
    import imos_core.weights

    pick = imos_core.weights.pick_device
    imos_core.weights.pick_device = lambda name: GPU
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with Pretend():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        imos_core.weights.pick_device = pick


GPU = torch.device("privateuseone", 0)


def transfers(objects: int) -> int:
    """Count what is sent to and fro on the fourth to sixth slice of a run with some objects."""
    from imos_core import propagate

    prompt = np.zeros((120, 240), np.uint8)
    for i in range(objects):
        prompt[20 + 60 * (i % 2) :, 20 + 28 * (i // 2) :][:18, :18] = i + 1
    noise = np.random.default_rng(0).integers(0, 60, (7, *prompt.shape))
    image = (noise + 150 * (prompt > 0)).astype(np.uint8)
    with pretended():
        for item in propagate(image, {0: prompt}, device="cuda", precision="float32"):
            assert len(np.unique(item.labels)) == objects + 1
            if item.index == 3:
                SENT.clear()
    return SENT.total()


def main() -> None:
    """Propagate in several ways on both devices."""
    prepare()
    from tiny import TINY_R50, tiny_model

    from imos_core import propagate
    from imos_core.samples import load_sample
    from imos_core.walking.checkpoint import Checkpoint

    sample = load_sample()
    k = sample.prompt_slice
    image, painted = sample.image[k - 3 : k + 4], sample.labels[k - 3 : k + 4]
    prompt = {3: painted[3]}
    networks = {"cpu": tiny_model(TINY_R50), "cuda": tiny_model(TINY_R50)}

    def interrupted(**more: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            for resume in (False, True):
                checkpoint = Checkpoint(Path(folder), 2, resume=resume)
                for item in propagate(image, prompt, checkpoint=checkpoint, **more):
                    yield item
                    if not resume and item.index == 5:
                        break

    def colours(**more: Any) -> Any:
        return propagate(np.stack([image] * 3, -1), prompt, channels_last=True, **more)

    def whole_slices(device: str, **more: Any) -> Any:
        if device == "cuda":
            networks[device] = networks[device].to(GPU)
        return propagate(image, prompt, model=networks[device], window="full", **more)

    lost = image.copy()
    lost[5] = 0
    ways = {
        "one painted slice": partial(propagate, image, prompt),
        "two painted slices": partial(propagate, image, {0: painted[0], 6: painted[6]}),
        "little memory": partial(propagate, image, prompt, batch=1, memory_budget="700MB"),
        "an object that ends": partial(propagate, image, prompt, ends={1: [5]}),
        "a damaged slice": partial(propagate, lost, prompt),
        "colours": colours,
        "interrupted": interrupted,
        "whole slices": whole_slices,
    }
    for name, run in ways.items():
        expected = {i.index: i.labels for i in run(device="cpu", precision="float32")}
        with pretended():
            found = {i.index: i.labels for i in run(device="cuda", precision="float32")}
        assert found.keys() == expected.keys()
        same = min(float((found[i] == expected[i]).mean()) for i in expected)
        sys.stdout.write(f"{name}: {same:.4f}\n")
    sys.stdout.write(
        f"transfers with 4, 5 and 12 objects: {transfers(4)} {transfers(5)} {transfers(12)}\n"
    )
    with pretended(), contextlib.suppress(RuntimeError):
        torch.ones(2).to(GPU) + torch.ones(2)
        sys.stdout.write("tensors of both devices were added\n")


if __name__ == "__main__":
    main()
