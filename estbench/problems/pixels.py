"""Binary pixels: fresh draws from intensities, and their log-likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

Observe = TypeVar("Observe", bound=Callable[..., Any])
# An intensity is one of 0/255, 1/255, ..., 255/255 if it is as near to it as 32-bit draws between 0 and 1 can tell.
WHITE = 255
RESOLUTION = 2.0**-24
# Logits that a core's cache holds, with what is computed from them.
CACHED = 2**17


def of_bytes(observe: Observe) -> Observe:
    """Mark a problem's ``observe`` that is ``binarised``, and so takes intensities k/255 as bytes k, too."""
    observe.of_bytes = True  # type: ignore[attr-defined]
    return observe


def as_bytes(intensities: NDArray[np.float32]) -> Tensor | None:
    """Return intensities k/255 as bytes k, of the same shape; None if one of them is something else."""
    levels = np.rint(intensities * WHITE)
    if np.abs(intensities - levels / WHITE).max(initial=0) > RESOLUTION:
        return None
    return torch.from_numpy(levels.astype(np.uint8))


def binarised(intensities: Tensor, generator: Generator) -> Tensor:
    """Draw pixels Bernoulli(intensity), (B, X) to (B, X) of floats; bytes k are intensities k/255, on a CPU.

    From bytes the law is exact and a draw takes a quarter of the time: see ``_binarised_bytes``.
    """
    if intensities.dtype == torch.uint8:
        return _binarised_bytes(intensities, generator)
    # The same law as torch.bernoulli, which takes three times as long on a CPU.
    return torch.rand(intensities.shape, generator=generator, device=intensities.device, dtype=intensities.dtype).lt_(
        intensities
    )


def _binarised_bytes(levels: Tensor, generator: Generator) -> Tensor:
    """Draw pixels Bernoulli(k/255): r < k for r uniform on 0, ..., 254, a random byte that is drawn again if 255."""
    count = levels.numel()
    draws, spare = np.split(_random_bytes(count + count // 128 + 1, generator), [count])
    again = np.flatnonzero(draws == WHITE)
    while again.size:
        if spare.size < again.size:
            spare = _random_bytes(2 * again.size, generator)
        draws[again], spare = spare[: again.size], spare[again.size :]
        again = again[draws[again] == WHITE]
    x = torch.empty(levels.shape, dtype=torch.float32)
    return torch.lt(torch.from_numpy(draws).view(levels.shape), levels, out=x)


def _random_bytes(count: int, generator: Generator) -> NDArray[np.uint8]:
    """Return independent bytes, uniform on 0, ..., 255: eight from each random number of 64 bits."""
    numbers = torch.empty(-(-count // 8), dtype=torch.int64)
    bytes_: NDArray[np.uint8] = numbers.random_(-(2**63), None, generator=generator).numpy().view(np.uint8)[:count]
    return bytes_


def pixel_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """Return the log-likelihood of binary pixels, from logits of (S, *R, B, X) and x of (B, X) to (S, *R, B)."""
    if torch.is_grad_enabled() or not logits.is_cpu:
        return _pixel_log_likelihood(logits, x)
    # No gradient needs the whole, so it is done piece by piece: a piece stays in the cache.
    pieces = torch.split(logits, max(1, CACHED // logits[0].numel()))
    return torch.cat([_pixel_log_likelihood(piece, x) for piece in pieces])


def _pixel_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
