"""BibTeX of the papers that the estimators are from."""

from __future__ import annotations

BIBTEX = {
    "bornschein2015": """@inproceedings{bornschein2015,
  author = {Bornschein, J{\"o}rg and Bengio, Yoshua},
  title = {Reweighted Wake-Sleep},
  booktitle = {International Conference on Learning Representations},
  year = {2015},
  eprint = {1406.2751},
  archiveprefix = {arXiv}
}""",
    "burda2016": """@inproceedings{burda2016,
  author = {Burda, Yuri and Grosse, Roger and Salakhutdinov, Ruslan},
  title = {Importance Weighted Autoencoders},
  booktitle = {International Conference on Learning Representations},
  year = {2016},
  eprint = {1509.00519},
  archiveprefix = {arXiv}
}""",
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
    "lievin2020": """@inproceedings{lievin2020,
  author = {Li{\'e}vin, Valentin and Dittadi, Andrea and Christensen, Anders and Winther, Ole},
  title = {Optimal Variance Control of the Score-Function Gradient Estimator for Importance-Weighted Bounds},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {33},
  year = {2020},
  eprint = {2008.01998},
  archiveprefix = {arXiv}
}""",
    "mnih2016": """@inproceedings{mnih2016,
  author = {Mnih, Andriy and Rezende, Danilo J.},
  title = {Variational Inference for {Monte Carlo} Objectives},
  booktitle = {International Conference on Machine Learning},
  year = {2016},
  eprint = {1602.06725},
  archiveprefix = {arXiv}
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
    "tucker2019": """@inproceedings{tucker2019,
  author = {Tucker, George and Lawson, Dieterich and Gu, Shixiang and Maddison, Chris J.},
  title = {Doubly Reparameterized Gradient Estimators for {Monte Carlo} Objectives},
  booktitle = {International Conference on Learning Representations},
  year = {2019},
  eprint = {1810.04152},
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
