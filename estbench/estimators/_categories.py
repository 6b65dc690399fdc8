"""Finite latents seen as categorical ones: bits are categories 0 and 1, with logits 0 and phi."""

from __future__ import annotations

import torch
from torch import Tensor

from estbench.problems import Objective


def category_logits(objective: Objective) -> Tensor:
    """Logits of q, (*R, B, D, C), live; C = 2 for bits."""
    logits = objective.params["logits"]
    return torch.stack([torch.zeros_like(logits), logits], -1) if _bits(objective) else logits


def one_hot(objective: Objective, z: Tensor) -> Tensor:
    """Values of q as one-hot vectors, (S, *R, B, D, C)."""
    return torch.stack([1 - z, z], -1) if _bits(objective) else z


def events(objective: Objective, vectors: Tensor) -> Tensor:
    """Vectors over categories, (S, *R, B, D, C), as values of q, one-hot or relaxed: the inverse of ``one_hot``."""
    return vectors[..., 1] if _bits(objective) else vectors


def _bits(objective: Objective) -> bool:
    return len(objective.q.event_shape) == 1
