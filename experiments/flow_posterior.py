"""A posterior that is a coupling flow of zuko (https://zuko.readthedocs.io): the plugin of flow_posterior.toml.

pip install zuko
estbench run experiments/flow_posterior.toml --plugin experiments/flow_posterior.py
"""

from __future__ import annotations

from collections.abc import Mapping

import zuko
from pydantic import Field
from torch import Tensor
from torch.distributions import Distribution

from estbench.latents import Latents
from estbench.options import BaseOptions
from estbench.problems import Posterior, register_posterior

zuko.distributions.NormalizingFlow.arg_constraints = {}  # without it torch warns that there are none


@register_posterior("coupling")
class CouplingPosterior(Posterior):
    """Affine couplings of a standard normal, with the encoder's outputs as context (Dinh, Sohl-Dickstein, Bengio 2017).

    z = T_K(... T_1(eps; h(x)) ...; h(x)),   eps ~ N(0, I);   log q(z|x) by the change of variables
    """

    class Options(BaseOptions):
        """Options of ``coupling``."""

        transforms: int = Field(default=4, ge=1, description="K, the number of couplings")
        context: int = Field(default=32, ge=1, description="numbers that the encoder gives for an image")
        hidden: int = Field(default=64, ge=1, description="units of each coupling's network")

    def __init__(self, latents: Latents, options: Options) -> None:
        super().__init__(latents, options)
        self.outputs = options.context
        hidden = (options.hidden, options.hidden)
        self.flow = zuko.flows.NICE(self.size, options.context, transforms=options.transforms, hidden_features=hidden)

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the context of the flow, (*B, context)."""
        return {"context": outputs}

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        """Return the flow at its context."""
        return self.flow(params["context"])  # type: ignore[no-any-return]
