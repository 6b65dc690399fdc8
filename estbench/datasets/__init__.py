"""Real data in, as arrays in [0, 1]: sets that ship with a dependency, and canonical files from a data folder."""

from estbench.datasets import idx as _idx  # noqa: F401  (registers mnist and fashion_mnist)
from estbench.datasets import shipped as _shipped  # noqa: F401  (registers mnist5k and digits)
from estbench.datasets.dataset import REGISTRY, Dataset, describe, load, names, register

__all__ = ["REGISTRY", "Dataset", "describe", "load", "names", "register"]
