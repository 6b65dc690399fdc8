"""Two layers of normal latents as one joint variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.latents.paths import at_own_noise


class TwoNormalLayers(Distribution):
    r"""The joint distribution of two normal layers z = (z1, z2), one of which is drawn given the other.

        p(z1, z2) = p(root) p(leaf | root)

    As a posterior q(z1|x) q(z2|z1), z1 is the root; as a prior p(z2) p(z1|z2), z2 is. Event (D1 + D2,): z1, then z2.

    Parameters
    ----------
    root
        The distribution of the layer that is drawn first, with event shape (D,).
    leaf
        Maps the root's value, (S, \*B, D), to the distribution of the other layer.
    sizes
        (D1, D2).
    first_is_root
        Whether z1 is the root.

    Examples
    --------
    >>> import torch
    >>> from estbench.latents import NormalLatents, TwoNormalLayers
    >>> normal = NormalLatents(2)
    >>> unit = {"loc": torch.zeros(5, 2), "log_scale": torch.zeros(5, 2)}
    >>> def leaf(z1):
    ...     return normal.family({"loc": z1, "log_scale": torch.zeros_like(z1)})
    >>> q = TwoNormalLayers(normal.family(unit), leaf, (2, 2), first_is_root=True)
    >>> z = q.rsample((3,))
    >>> z.shape, q.log_prob(z).shape
    (torch.Size([3, 5, 4]), torch.Size([3, 5]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(
        self,
        root: Distribution,
        leaf: Callable[[Tensor], Distribution],
        sizes: tuple[int, int],
        *,
        first_is_root: bool,
    ) -> None:
        self.root = root
        self.leaf = leaf
        self.sizes = sizes
        self.first_is_root = first_is_root
        super().__init__(root.batch_shape, torch.Size((sum(sizes),)), validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        r"""Return differentiable samples, (\*sample_shape, \*B, D1 + D2)."""
        root = self.root.rsample(torch.Size(sample_shape))
        return self._joined(root, self.leaf(root).rsample())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        r"""Return samples, (\*sample_shape, \*B, D1 + D2), without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Return the joint log-density, (\*S, \*B)."""
        root, leaf = self._parted(value)
        log_p: Tensor = self.root.log_prob(root) + self.leaf(root).log_prob(leaf)
        return log_p

    def at_own_noise(self, value: Tensor) -> Tensor:
        """Return ``value`` with the derivative of a draw at the same place: see ``estbench.latents.at_own_noise``.

        The leaf moves with the root, as in a draw.
        """
        root, leaf = self._parted(value)
        root = at_own_noise(self.root, root)
        return self._joined(root, at_own_noise(self.leaf(root), leaf))

    def _parted(self, value: Tensor) -> tuple[Tensor, Tensor]:
        first, second = value[..., : self.sizes[0]], value[..., self.sizes[0] :]
        return (first, second) if self.first_is_root else (second, first)

    def _joined(self, root: Tensor, leaf: Tensor) -> Tensor:
        if not self.first_is_root:
            root, leaf = leaf, root
        return torch.cat([root, leaf], -1)
