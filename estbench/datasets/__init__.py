"""Real data as arrays in [0, 1]: sets that ship with a dependency, downloaded files, and files of the user."""

from estbench.datasets import idx as _idx  # noqa: F401  (registers mnist and fashion_mnist)
from estbench.datasets import matlab as _matlab  # noqa: F401  (registers static_mnist, omniglot and silhouettes)
from estbench.datasets import shipped as _shipped  # noqa: F401  (registers mnist5k and digits)
from estbench.datasets.dataset import DATASETS, Dataset, DatasetInfo, data_id, describe, info, load, names, register

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "data_id", "describe", "info", "load", "names", "register"]
