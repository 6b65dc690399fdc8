"""`estbench check --problem`: the certificate of a model of one's own, and what `estbench run` refuses of it."""

from __future__ import annotations

import json

import pytest

SMALL = "[dataset=digits,hidden=[4],latent_size=2]"
MINE = '''
import torch

from estbench.problems import register
from estbench.problems.vae import VAE


@register("mine")
class Mine(VAE):
    """The encoder centres its examples by their own batch."""

    summary = "a mean over the batch"

    def encode(self, x):
        return super().encode(x - x.mean(0))


@register("other")
class Other(VAE):
    """No defect."""

    summary = "a VAE"


@register("claims")
class Claims(VAE):
    """Its q is normal."""

    summary = "claims bits"

    @classmethod
    def latents_of(cls, options):
        return "bernoulli"


@register("leaves")
class Leaves(VAE):
    summary = "ends its process"

    def encode(self, x):
        raise SystemExit("bye")
'''


@pytest.fixture
def mine(plugin):
    return plugin("mine.py", MINE)


def test_a_certificate_is_a_table(estbench, here):
    code, said, errors = estbench("check", "--problem", f"vae{SMALL}")
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    for check in ("data", "bounds", "examples apart", "groups", "save and load", "resume", "probe"):
        assert any(line.strip().startswith(check) and "passed" in line for line in lines), check
    (exact,) = [line for line in lines if "exact objective" in line]
    assert "not applicable" in exact
    assert "skipped" in exact
    assert f"vae{SMALL.replace('hidden=[4],latent_size=2', 'latent_size=2,hidden=[4]')}: passed" in lines[-1]
    assert list(here.iterdir()) == []  # nothing is kept


def test_a_defect_fails_with_a_message_that_helps(estbench, here, mine):
    code, said, errors = estbench("check", "--plugin", mine, "--problem", f"mine{SMALL}", "--problem", f"other{SMALL}")
    assert (code, errors) == (1, "")
    (line,) = [line for line in said.splitlines() if line.startswith("examples apart failed")]
    for words in ("loc of an example", "Usual causes", "normalisation over the batch"):
        assert words in line
    assert "1 of 2 certificates passed" in said


@pytest.mark.slow
def test_estimators_and_problems_for_programs(estbench, here):
    code, said, _ = estbench(
        "check", "enumeration", "--problem", "bernoulli_toy", "--problem", "bernoulli_toy", "--json"
    )
    assert code == 0
    estimator, problem = json.loads(said)
    assert (estimator["label"], problem["label"]) == ("enumeration", "bernoulli_toy")
    assert problem["outcome"] == "passed"
    assert {"name", "outcome", "evidence", "message"} <= set(problem["checks"][0])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--problem", "vea"), "did you mean 'vae'"),
        (("--problem", "vae[latent_size=0]"), "greater than or equal to 1"),
        (("--problem", "vae", "--record"), "drop --problem"),
        (("--problem", "vae", "--all", "stl"), "name the estimators to check"),
    ],
)
def test_misuse(refused, arguments, complaint):
    assert complaint in refused("check", *arguments)


def test_a_model_that_leaves_is_one_line(estbench, here, mine):
    code, said, errors = estbench("check", "--plugin", mine, "--problem", f"leaves{SMALL}")
    assert code == 1
    assert said == ""
    assert errors.count("\n") == 1
    assert "mine.py" in errors


@pytest.mark.parametrize(("estimator", "extra"), [("rloo", ()), ("disarm", ()), ("reinforce", ("--jobs", "2"))])
def test_a_family_that_q_does_not_have_is_refused_before_anything_runs(refused, mine, estimator, extra):
    """``refused`` holds that the exit code is 2, and that nothing is written."""
    complaint = refused(
        "run", "--plugin", mine, "-e", estimator, "--problem", f"claims{SMALL}", "--out", "results/x", *extra
    )
    assert "latents are bernoulli" in complaint
    assert "q is a Normal" in complaint
    assert "latents_of" in complaint
