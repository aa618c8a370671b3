"""Similarity, softmax and readout: the arithmetic of memory reading, shared by training and memory.

Letters: ``B`` batch, ``n`` objects, ``N`` memory tokens, ``M`` query positions, ``CK`` key and
``CV`` value channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def similarity(
    key: Tensor, shrinkage: Tensor | None, query: Tensor, selection: Tensor | None
) -> Tensor:
    """Anisotropic negative squared distance between memory tokens and query positions.

    Parameters
    ----------
    key : Tensor
        `(B, CK, N)` memory keys.
    shrinkage : Tensor or None
        `(B, 1, N)` sharpness of each memory token (at least 1); None means 1.
    query : Tensor
        `(B, CK, M)` query keys.
    selection : Tensor or None
        `(B, CK, M)` weight of each key channel for each query position; None means 1, and leaves
        out the term that is constant over memory tokens.

    Returns
    -------
    Tensor
        `(B, N, M)`.

    Notes
    -----
    XMem, section 3.3: ``S_ij = -s_i / sqrt(CK) * sum_c e_cj (k_ci - q_cj)^2``.
    """
    channels = key.shape[1]
    memory = key.transpose(1, 2)  # (B, N, CK)
    if selection is None:
        cross = 2 * memory @ query
        square = memory.square().sum(-1, keepdim=True)  # (B, N, 1)
        score = cross - square
    else:
        cross = 2 * memory @ (query * selection)
        square = memory.square() @ selection
        constant = (selection * query.square()).sum(1, keepdim=True)  # (B, 1, M)
        score = cross - square - constant
    if shrinkage is not None:
        score = score * shrinkage.transpose(1, 2)
    scaled: Tensor = score / channels**0.5
    return scaled


def softmax(scores: Tensor) -> Tensor:
    """Softmax over memory tokens, `(B, N, M)` in and out."""
    return torch.softmax(scores, dim=1)


def top_k_softmax(scores: Tensor, k: int) -> Tensor:
    """Softmax over the `k` most similar memory tokens of each query position, 0 elsewhere.

    Parameters
    ----------
    scores : Tensor
        `(B, N, M)` similarities.
    k : int
        Tokens kept; all of them if the memory holds fewer.

    Returns
    -------
    Tensor
        `(B, N, M)`, columns sum to 1.
    """
    if k >= scores.shape[1]:
        return softmax(scores)
    best, index = scores.topk(k, dim=1)  # (B, k, M)
    return torch.zeros_like(scores).scatter_(1, index, torch.softmax(best, dim=1))


def readout(affinity: Tensor, value: Tensor) -> Tensor:
    """Mix memory values by affinity.

    Parameters
    ----------
    affinity : Tensor
        `(B, N, M)`.
    value : Tensor
        `(B, n, CV, N)`.

    Returns
    -------
    Tensor
        `(B, n, CV, M)`.
    """
    batch, objects, channels, tokens = value.shape
    mixed = value.reshape(batch, objects * channels, tokens) @ affinity
    return mixed.reshape(batch, objects, channels, -1)
