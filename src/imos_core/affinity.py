"""Similarity, softmax and readout: the arithmetic of memory reading, shared by training and memory.

Letters: ``B`` batch, ``n`` objects, ``N`` memory tokens, ``M`` query positions, ``CK`` key and
``CV`` value channels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

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
    # one matrix product, and nothing else of the size of the result: expand the square, and
    # let shrinkage scale the memory's side
    if shrinkage is None:
        shrinkage = key.new_ones(key.shape[0], 1, key.shape[2])
    memory = memory_factor(key, shrinkage)
    weights = query_factor(query, selection)
    # tokens are neighbours in storage, which makes a search among them fast
    by_position = weights.transpose(1, 2) @ memory[:, : weights.shape[1]]  # (B, M, N)
    return by_position.transpose(1, 2)


def memory_factor(key: Tensor, shrinkage: Tensor) -> Tensor:
    """Memory's side of the product that `similarity` is; does not depend on what is asked.

    Parameters
    ----------
    key : Tensor
        `(B, CK, N)`.
    shrinkage : Tensor
        `(B, 1, N)`.

    Returns
    -------
    Tensor
        `(B, 2 * CK + 1, N)`.
    """
    terms = [key.square(), key, torch.ones_like(shrinkage)]
    return torch.cat(terms, 1) * (shrinkage * (1 / math.sqrt(key.shape[1])))


def query_factor(query: Tensor, selection: Tensor | None) -> Tensor:
    """The query's side of that product.

    Parameters
    ----------
    query : Tensor
        `(B, CK, M)`.
    selection : Tensor or None
        `(B, CK, M)`; None leaves out the last row, which is constant over memory tokens.

    Returns
    -------
    Tensor
        `(B, 2 * CK + 1, M)`, or `(B, 2 * CK, M)`.
    """
    if selection is None:
        return torch.cat([-torch.ones_like(query), 2 * query], 1)
    constant = (selection * query.square()).sum(1, keepdim=True)  # (B, 1, M)
    return torch.cat([-selection, 2 * query * selection, -constant], 1)


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
        return torch.softmax(scores, dim=1)
    weights, index = top_k(scores, k)
    return torch.zeros_like(scores).scatter_(1, index, weights)


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Do as `top_k_softmax`, and return the entries that are not 0.

    Returns
    -------
    weights : Tensor
        `(B, k, M)`, columns sum to 1.
    index : Tensor
        `(B, k, M)` int64, their memory tokens.
    """
    best, index = scores.topk(min(k, scores.shape[1]), dim=1)
    return torch.softmax(best, dim=1), index


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


def sparse_readout(weights: Tensor, index: Tensor, value: Tensor) -> Tensor:
    """Mix memory values by the few tokens that `top_k` has found.

    Parameters
    ----------
    weights, index : Tensor
        `(B, k, M)`.
    value : Tensor
        `(B, N, n, CV)`: all that a token says stands together.

    Returns
    -------
    Tensor
        `(B, n, CV, M)`.
    """
    batch, tokens, objects, channels = value.shape
    positions = index.shape[2]
    # on other devices a dense product is faster than a gather; and torch 2.4 cannot differentiate
    # a gather where nothing but the weights learns
    learning = weights.requires_grad and not value.requires_grad
    if value.device.type != "cpu" or learning:
        dense = weights.new_zeros(batch, tokens, positions).scatter_(1, index, weights)
        return readout(dense.to(value.dtype), value.permute(0, 2, 3, 1))
    width, between = objects * channels, tokens
    if not value.is_contiguous() and value[0].is_contiguous() and value.stride(0) % width == 0:
        # sequences of a larger buffer, with room between them that nobody points to
        between = value.stride(0) // width
        table = value.as_strided(((batch - 1) * between + tokens, width), (width, 1))
    else:
        table = value.reshape(batch * tokens, width)
    first = between * torch.arange(batch, device=index.device)[:, None, None]
    mixed = F.embedding_bag(
        (index + first).transpose(1, 2).flatten(0, 1),  # (B * M, k)
        table,
        per_sample_weights=weights.transpose(1, 2).flatten(0, 1).to(value.dtype),
        mode="sum",
    )
    return mixed.reshape(batch, positions, objects, channels).permute(0, 2, 3, 1)
