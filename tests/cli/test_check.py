"""`estbench check`: the certificate of somebody's own estimator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estbench.certify import record
from estbench.certify.record import shipped_certificates
from estbench.cli import _exit_code

BIASED = '''
from estbench.estimators import Estimator, register


@register("mine")
class Mine(Estimator):
    """The baseline is the mean of all samples: also of the one that it is subtracted from."""

    summary = "a baseline that includes its sample"
    supports = {"bernoulli"}
    unbiased = True
    needs_differentiable_f = False
    evaluations = 2

    def forward(self, objective):
        z = objective.q.sample((2,))
        f = objective.f(z, objective.frozen_q())
        signal = (f - f.mean(0)).detach()
        return (f + signal * objective.q.log_prob(z)).mean(0) - objective.kl()
'''
TINY = ("--problem", "vae[dataset=digits,hidden=[8],latent_size=2]", "--steps", 10, "--set", "evaluation.examples=20")
QUIET = ("--set", "probe.replicates=0", "--set", "throughput.rounds=0")


def test_a_certificate_is_a_table_and_a_file(estbench, here):
    code, said, errors = estbench("check", "arm")
    assert (code, errors) == (0, "")
    for words in ("exact mean", "unbiased", "max |z| = ", "would show", "decoder gradient", "closed-form variance"):
        assert words in said
    assert "arm: passed" in said.splitlines()[-1]
    assert [path.name for path in Path("results/certificates").iterdir()] == ["arm.json"]


@pytest.mark.slow
def test_a_certificate_for_programs(estbench, here):
    code, said, _ = estbench("check", "arm", "--json", "--out", "elsewhere")
    assert code == 0
    (answer,) = json.loads(said)
    assert (answer["label"], answer["outcome"]) == ("arm", "passed")
    (one, *_) = [check for check in answer["checks"] if check["name"] == "unbiased"]
    assert {"z", "bound", "n", "detectable"} <= set(one["numbers"])
    assert json.loads(Path("elsewhere/arm.json").read_text())["checks"] == answer["checks"]


def test_a_defect_fails_with_a_message_that_helps(estbench, here, plugin):
    path = plugin("mine.py", BIASED)
    code, said, errors = estbench("check", "--plugin", path, "mine")
    assert (code, errors) == (1, "")
    assert "mine: failed" in said
    (line,) = [line for line in said.splitlines() if line.startswith("exact mean failed on 'bernoulli")]
    for words in ("logits[", "expected", "measured", "times the exact gradient", "a baseline that has seen the sample"):
        assert words in line
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "name the estimators to check"),
        (("stl", "--all"), "name the estimators to check"),
        (("stll",), "did you mean 'stl'"),
        (("rloo[num_samples=1]",), "greater than or equal to 2"),
        (("stl", "--record", "--out", "x"), "drop --plugin and --out"),
    ],
)
def test_misuse_of_check(refused, arguments, complaint):
    assert complaint in refused("check", *arguments)


@pytest.mark.slow
def test_a_name_is_checked_with_its_variants_and_a_variant_alone(estbench, here):
    code, said, _ = estbench("check", "arms[copula=dirichlet]")  # the default, however it is written
    assert code == 0
    assert [line for line in said.splitlines() if ": passed" in line][-1].startswith("arms: passed")
    code, said, _ = estbench("check", "arms")
    assert code == 0
    assert "2 of 2 certificates passed" in said


@pytest.mark.slow
def test_recording_puts_it_among_those_that_ship(estbench, here, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "SHIPPED", tmp_path / "certificates.json")
    assert estbench("check", "arm", "--record").code == 0
    assert list(shipped_certificates()) == ["arm"]
    assert not Path("results").exists()
    assert len({check.name for check in shipped_certificates()["arm"].checks}) == len(
        shipped_certificates()["arm"].checks
    )


def test_list_and_show_say_what_is_proved(estbench, here, plugin, monkeypatch, tmp_path):
    monkeypatch.setattr(record, "SHIPPED", tmp_path / "none.json")
    path = plugin("mine.py", BIASED)

    def listed():
        entries = json.loads(estbench("list", "estimators", "--plugin", path, "--json").out)["estimators"]
        return {entry["name"]: entry for entry in entries}["mine"]

    entry = listed()
    assert entry["certificate"] == "none"
    assert entry["requires"] == ["bernoulli"]
    assert entry["differentiable f"] is False
    assert "mine: none" in estbench("show", "mine", "--plugin", path).out
    estbench("check", "--plugin", path, "mine")
    assert listed()["certificate"] == "failed"
    said = estbench("show", "mine", "--plugin", path).out
    assert "mine: failed" in said
    assert "exact mean: failed; relative error" in said


@pytest.mark.slow
def test_a_report_takes_a_certificate_that_was_made_since(estbench, here, monkeypatch, tmp_path):
    monkeypatch.setattr(record, "SHIPPED", tmp_path / "none.json")
    bits = ("--problem", "vae[dataset=digits,latents=bernoulli,hidden=[8],latent_size=2]", *TINY[2:])
    assert estbench("run", "-e", "arm", "--out", "results/x", *bits, *QUIET).code == 0
    page = Path("results/x/report/report.html")
    assert "No passing certificate: arm (none)." in page.read_text()
    estbench("check", "arm")
    estbench("report", "results/x")
    assert "No passing certificate" not in page.read_text()


LEAVES = """
import sys
from estbench.estimators import Estimator, register

{at_import}

@register("leaves")
class Leaves(Estimator):
    summary = "ends its process"
    supports = {{"normal"}}
    unbiased = True
    needs_differentiable_f = True
    evaluations = 1

    def __init__(self, options=None):
        super().__init__(options)
        {at_init}

    def forward(self, objective):
        {at_forward}
"""
NOWHERE = {"at_import": "", "at_init": "pass", "at_forward": "pass"}


@pytest.mark.parametrize("command", [["check", "leaves"], ["probe", "-e", "leaves", "--replicates", "3"]])
@pytest.mark.parametrize("where", NOWHERE)
@pytest.mark.parametrize("how", ["sys.exit('bye\\n')", "raise GeneratorExit"])
def test_a_plugin_that_leaves_is_one_line(tmp_path, monkeypatch, capsys, plugin, command, where, how):
    file = plugin("leaves.py", LEAVES.format(**{**NOWHERE, where: how}))
    monkeypatch.chdir(tmp_path)
    assert _exit_code([*command, "--plugin", str(file)]) == (2 if where == "at_import" else 1)
    output = capsys.readouterr()
    assert "leaves.py" in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""
