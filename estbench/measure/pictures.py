"""Pictures of a trained model: a few small images, from the same data and the same noise for every estimator."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.measure.frozen import frozen
from estbench.problems import Problem
from estbench.randomness import seeded

# The pictures of one run have at most so many bytes, a byte for each pixel.
MOST_BYTES = 150_000
MOST_IMAGES = 16
# The map of two latents has so many images on a side.
MAP_SIDE = 10


def pictures(problem: Problem, x: Tensor, seed: int) -> list[dict[str, Any]]:
    """Return pictures of a problem: observations, their reconstructions, and samples from the prior.

    A reconstruction is the mean image of one draw from q(z|x). A problem with two normal latents also has a map: the
    mean images on a grid of equal prior probability. The problem is measured in eval mode, and torch's random state is
    left as it was.

    Parameters
    ----------
    problem
        The model; it needs the methods ``decode`` and ``sample_prior``.
    x
        Observations, (N, X); the first are taken, at most 16.
    seed
        The seed of the draws.

    Returns
    -------
    list
        A row for each picture: ``kind`` (original, reconstruction, sample or map), ``number``, ``shape`` (28x28) and
        ``pixels``, a byte for each, by rows. Empty if the problem makes no images.

    Raises
    ------
    EstbenchError
        If a single image is too large.

    Examples
    --------
    >>> import torch
    >>> from estbench import measure, problems
    >>> problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    >>> rows = measure.pictures(problem, torch.zeros(4, 64), seed=0)
    >>> [row["kind"] for row in rows].count("map"), rows[0]["shape"], len(rows[0]["pixels"])
    (100, '8x8', 64)
    """
    if type(problem).decode is Problem.decode or type(problem).sample_prior is Problem.sample_prior:
        return []
    shape = problem.data.shape
    count = min(len(x), MOST_IMAGES, MOST_BYTES // (3 * math.prod(shape)))
    if count == 0:
        raise EstbenchError(
            f"an image of {math.prod(shape):,} pixels is too large: pictures have at most {MOST_BYTES:,} bytes a run"
        )
    with frozen(problem), seeded(seed, problem.device), torch.inference_mode():
        images = {
            "original": x[:count],
            "reconstruction": problem.reconstruct(x[:count]),
            "sample": problem.decode(problem.sample_prior(count)),
        }
        side = min(MAP_SIDE, math.isqrt(MOST_BYTES // math.prod(shape) - 3 * count))
        normal = problem.latents_of(problem.options) == "normal" and side > 1
        if normal and (objective := problem(x[:1])).q.event_shape == (2,):
            quantiles = torch.special.ndtri((torch.arange(side) + 0.5) / side)
            grid = torch.cartesian_prod(quantiles.flip(0), quantiles).flip(1).to(x)
            images["map"] = problem.decode(objective.prior.mean + objective.prior.stddev * grid)
    return [
        {"kind": kind, "number": number, "shape": "x".join(map(str, shape)), "pixels": _bytes(image)}
        for kind, batch in images.items()
        for number, image in enumerate(batch)
    ]


def _bytes(image: Tensor) -> bytes:
    """Return intensities as bytes: 0 is black, 255 is 1."""
    levels = image.double().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.cpu().contiguous().numpy().tobytes()
