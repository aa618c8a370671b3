"""Copies of networks for inference, kept for as long as the networks stay as they are."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

from imos_core.model.inference import for_inference

if TYPE_CHECKING:
    from imos_core.model.network import IMOS


class _Copy(NamedTuple):
    """A copy, and what it was made from."""

    origin: tuple[Any, ...]
    network: IMOS


_copies: WeakKeyDictionary[IMOS, _Copy] = WeakKeyDictionary()


@torch.no_grad()
def prepared(model: IMOS, dtype: torch.dtype, *, grey: bool) -> IMOS:
    """Return what `for_inference` does, which takes as long as some slices, made only once.

    The last copy of every network is kept; one that was trained, moved or loaded since is copied
    anew. Copies hold nothing of a run, so that several runs may share one.
    """
    reach = tuple(sorted(model.activations.items()))
    origin = (dtype, grey, model.config, reach, *_looks(model))
    known = _copies.get(model)
    if known is None or known.origin != origin:
        known = _copies[model] = _Copy(origin, for_inference(model, dtype, grey=grey))
    return known.network


def _looks(model: IMOS) -> tuple[Any, ...]:
    """What changes with the weights: where they are, how often they were written to, their size."""
    weights = [w for w in chain(model.parameters(), model.buffers()) if w.is_floating_point()]
    # tensors that were made for inference are not counted, and some ways of writing are not
    written = [None if w.is_inference() else w._version for w in weights]
    norms = torch.stack(torch._foreach_norm(weights)).tolist()
    return *(w.data_ptr() for w in weights), *written, *norms
