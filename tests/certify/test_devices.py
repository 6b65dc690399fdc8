"""What a certificate says of an estimator that would be wrong, or slow, on an accelerator."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

HEAD = """
import torch

from estbench.estimators import Estimator, register


@register("mine")
class Mine(Estimator):
    summary = "pathwise, with a fault on accelerators"
    supports = {"normal"}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1
"""
# By fault: the rest of the class, the outcome, and words of the line.
FAULTS = {
    "a hidden item": (
        """
        def forward(self, objective):
            f = objective.f(objective.q.rsample((1,)))
            if f.mean().item() > 1e9:
                f = 2 * f
            return f.mean(0) - objective.kl()
        """,
        "passed",
        ["waits once a step", "item in mine.py, line 17"],
    ),
    "a mask as an index": (
        """
        def forward(self, objective):
            f = objective.f(objective.q.rsample((1,)))
            finite = f[f > -1e9]
            return f.mean(0) + 0 * finite.sum() - objective.kl()
        """,
        "passed",
        ["waits once a step", "mask as an index in mine.py"],
    ),
    "a tensor of the host": (
        """
        def forward(self, objective):
            f = objective.f(objective.q.rsample((1,))).mean(0)
            return f * torch.ones(f.shape) - objective.kl()
        """,
        "failed",
        ["mine.py, line 17 makes a tensor or a generator on the host", "device=z.device"],
    ),
    "a generator of the host": (
        """
        def forward(self, objective):
            generator = torch.Generator().manual_seed(int(torch.randint(9, ())))
            loc = objective.q.mean
            noise = torch.randn(loc.shape, generator=generator, dtype=loc.dtype, device=loc.device)
            z = (loc + objective.q.stddev * noise)[None]
            return objective.f(z).mean(0) - objective.kl()
        """,
        "failed",
        ["mine.py, line 18 makes a tensor or a generator on the host"],
    ),
    "an attribute that is no buffer": (
        """
        def __init__(self, options=None):
            super().__init__(options)
            self.factor = torch.ones(1)

        def forward(self, objective):
            f = objective.f(objective.q.rsample((1,))).mean(0)
            return f * self.factor.to(f.dtype) - objective.kl()
        """,
        "failed",
        ["'factor' stays on the host", "register_buffer"],
    ),
}


# Certifies every plugin in a folder, one after the other, and prints their checks.
SCRIPT = """
import json, pathlib, sys
from estbench.certify.checks.contract import check_devices
from estbench.certify.estimator_under_test import EstimatorUnderTest
from estbench.certify.simulated_device import why_not
from estbench.estimators import ESTIMATORS, create
from estbench.plugins import load_plugin

assert why_not() == ""
found = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/mine.py")):
    load_plugin(path)
    tested = EstimatorUnderTest("mine", lambda: create("mine"), trains_long=False)
    found[path.parent.name] = check_devices(tested, tested.representatives[0])[:3]
    del ESTIMATORS._entries["mine"]
print(json.dumps(found))
"""


def run(environment, *arguments):
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def lines(environment, tmp_path_factory):
    """The outcome, the evidence and the message for each fault."""
    folder = tmp_path_factory.mktemp("faults")
    for fault, (body, _, _) in FAULTS.items():
        (folder / fault).mkdir()
        text = HEAD + textwrap.indent(textwrap.dedent(body), "    ")
        (folder / fault / "mine.py").write_text(text, encoding="utf-8")
    return json.loads(run(environment, SCRIPT, str(folder)))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_on_an_accelerator_is_one_clear_line(lines, fault):
    _, expected, words = FAULTS[fault]
    outcome, evidence, message = lines[fault]
    assert outcome == expected
    for word in words:
        assert word in (message if expected == "failed" else evidence)


def test_where_autograd_was_used_before_there_is_no_simulated_accelerator_and_it_is_said(environment):
    script = (
        "import torch; torch.ones(1, requires_grad=True).sum().backward();"
        "from estbench.certify.simulated_device import why_not; print(why_not())"
    )
    assert run(environment, script) == "autograd was used before in this process"
