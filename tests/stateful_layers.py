"""A plugin of VAEs with dropout or batch normalisation, in the encoder or in the decoder."""

from __future__ import annotations

PLUGIN = """
from typing import Literal

from torch import nn

from estbench.problems.problem import register
from estbench.problems.vae import VAE


class Flat(nn.Sequential):
    def forward(self, rows):
        return super().forward(rows.flatten(0, -2)).unflatten(0, rows.shape[:-1])


@register("moving")
class Moving(VAE):
    summary = "VAE with a layer that moves"

    class Options(VAE.Options):
        kind: Literal["dropout", "batchnorm"] = "dropout"
        side: Literal["encoder", "decoder"] = "encoder"

    def __init__(self, options=None):
        super().__init__(options)
        layer = nn.Dropout(0.3) if self.options.kind == "dropout" else nn.BatchNorm1d(8)
        inputs, outputs = self.data.size, self.family.outputs
        if self.options.side == "decoder":
            inputs, outputs = self.family.inputs, self.data.size
        setattr(self, self.options.side, Flat(nn.Linear(inputs, 8), layer, nn.Tanh(), nn.Linear(8, outputs)))
"""


def problem(kind, side):
    """The variant, at the size of the tiny experiment."""
    return f"moving[dataset=digits,hidden=[8],latent_size=2,kind={kind},side={side}]"
