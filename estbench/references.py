"""BibTeX of the papers that the estimators are from."""

from __future__ import annotations

BIBTEX = {
    "kingma2014": """@inproceedings{kingma2014,
  author = {Kingma, Diederik P. and Welling, Max},
  title = {Auto-Encoding Variational {Bayes}},
  booktitle = {International Conference on Learning Representations},
  year = {2014},
  eprint = {1312.6114},
  archiveprefix = {arXiv}
}""",
    "kool2019": """@inproceedings{kool2019,
  author = {Kool, Wouter and van Hoof, Herke and Welling, Max},
  title = {Buy 4 {REINFORCE} Samples, Get a Baseline for Free!},
  booktitle = {Deep Reinforcement Learning Meets Structured Prediction, ICLR Workshop},
  year = {2019}
}""",
    "roeder2017": """@inproceedings{roeder2017,
  author = {Roeder, Geoffrey and Wu, Yuhuai and Duvenaud, David},
  title = {Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational Inference},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {30},
  year = {2017},
  eprint = {1703.09194},
  archiveprefix = {arXiv}
}""",
    "williams1992": """@article{williams1992,
  author = {Williams, Ronald J.},
  title = {Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning},
  journal = {Machine Learning},
  volume = {8},
  pages = {229--256},
  year = {1992}
}""",
}
