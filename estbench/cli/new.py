"""``estbench new``."""

from __future__ import annotations

from pathlib import Path
from string import Template

import rich_click as click

from estbench.errors import EstbenchError

ESTIMATOR = Template('''"""The estimator `$name`: a first version that works; change it."""

from torch import Tensor

from estbench.estimators import Estimator, register
from estbench.options import BaseOptions
from estbench.problems import Objective


@register("$name")
class $cls(Estimator):
    r"""Score function with a leave-one-out baseline. Say here what is estimated, how, and where it is from.

        grad E_q[f(z)] ~ (1/S) sum_s (f(z_s) - 1/(S-1) sum_{j != s} f(z_j)) grad log q(z_s)
    """

    # The declared facts: `estbench check` puts each of them to the test.
    summary = "score function with a leave-one-out baseline"  # one line, for lists and reports
    reference = None  # a BibTeX key of estbench.references, if the paper is there
    # Required of q: "any" (samples and their density), "reparameterized" (also q.rsample), or the families whose
    # structure the formula uses: "normal", "bernoulli", "categorical", ...
    supports = frozenset({"any"})
    unbiased = True
    needs_differentiable_f = False  # whether it takes the derivative of f with respect to z

    class Options(BaseOptions):
        """Options of `$name`, written `$name[num_samples=4]`. Every option has a default."""

        num_samples: int = 2

    def __init__(self, options: BaseOptions | None = None) -> None:
        super().__init__(options)
        self.evaluations = self.options.num_samples  # calls of f per example and step

    def forward(self, objective: Objective) -> Tensor:
        """One surrogate per example, whose gradient is the estimate of the gradient of the bound (maximised).

        Samples come first, then any batch dimensions: (S, *batch_shape). Average only over dimension 0, so that
        examples, and the replicates of a probe, stay apart.
        """
        samples = self.options.num_samples
        z = objective.q.sample((samples,))  # no gradient flows through z; q.rsample is for pathwise estimators
        # frozen_q: where f holds -log q(z), its direct gradient has mean zero and would only add noise.
        f = objective.f(z, objective.frozen_q())
        baseline = (f.sum(0) - f) / (samples - 1)  # of the other samples only: it does not depend on z_s
        signal = (f - baseline).detach()
        # f itself brings the gradient of the decoder's weights, once; kl() is the analytic part of the bound, or zero.
        return (f + signal * objective.q.log_prob(z)).mean(0) - objective.kl()
''')
TEST = Template('''"""The certificate of `$name`: run with `pytest $test`."""

from pathlib import Path

from estbench.certify import certify
from estbench.plugins import load_plugin

load_plugin(Path(__file__).with_name("$file"))


def test_its_certificate_passes():
    certificate = certify("$name")
    assert certificate.outcome == "passed", "\\n".join(certificate.complaints())
''')


@click.command()
@click.argument("name")
def command(name: str) -> None:
    """Write a new estimator, NAME.py, and its test; both work as they are, and are meant to be changed."""
    from estbench.cli.console import say
    from estbench.estimators import ESTIMATORS
    from estbench.variant import NAME

    if not NAME.fullmatch(name) or not name[0].isalpha():
        raise EstbenchError(f"invalid estimator name '{name}': begin with a-z, then use a-z, 0-9, - and _")
    if name in ESTIMATORS.names():
        raise EstbenchError(f"the estimator '{name}' exists already; choose another name")
    words = name.replace("-", "_")
    plugin, test = Path(f"{words}.py"), Path(f"test_{words}.py")
    for path in (plugin, test):
        if path.exists():
            raise EstbenchError(f"'{path}' exists already, and is not overwritten; choose another name")
    cls = "".join(word.capitalize() for word in words.split("_"))
    content = {"name": name, "cls": cls, "file": plugin.name, "test": test.name}
    plugin.write_text(ESTIMATOR.substitute(content), encoding="utf-8")
    test.write_text(TEST.substitute(content), encoding="utf-8")
    for line in (
        f"written: {plugin}, {test}",
        f"check it:   estbench check --plugin {plugin} {name}",
        f"compare it: estbench run --plugin {plugin} -e {name} -e reparam",
    ):
        say(line)
