"""Exercises of `estbench new estimator NAME --exercise`: unsolved and wrong ones fail, and answers pass."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import pytest

from estbench.certify import certify
from estbench.cli.new import EXERCISES
from estbench.plugins import load_plugin


class Solution(NamedTuple):
    """The line of the exercise that a student changes, an answer, and wrong ones with words of the complaint."""

    line: str
    answer: str
    wrong: dict[str, str]


SOLUTIONS = {
    "pathwise": Solution(
        "z = objective.q.sample((1,))",
        "z = mu + sigma * torch.randn_like(mu)[None]",
        {
            "z = (mu + sigma * torch.randn_like(mu)[None]).detach()": "noise that is detached",
            "z = mu + sigma.log() * torch.randn_like(mu)[None]": "log_scale",
            "z = mu + (sigma * torch.randn_like(mu)[None]).detach()": "log_scale",
        },
    ),
    "score-function": Solution(
        "score = 0.0",
        "score = f.detach() * objective.q.log_prob(z)",
        {
            "score = f * objective.q.log_prob(z)": "decoder gradient",
            "score = f.detach() * objective.q.log_prob(z).exp()": "times the exact gradient",
            "score = -f.detach() * objective.q.log_prob(z)": "times the exact gradient",
            "score = f.detach().mean(-1, keepdim=True) * objective.q.log_prob(z)": "no cross-talk",
        },
    ),
    "leave-one-out": Solution(
        "baseline = f.mean(0)",
        "baseline = (f.sum(0) - f) / 3",
        {
            "baseline = f.sum(0) - f": "is no noisier",  # unbiased, and the noise is not less
            "baseline = f.mean()": "no cross-talk",
            "baseline = 0.0": "is no noisier",
        },
    ),
}


def test_each_exercise_has_an_answer():
    assert set(SOLUTIONS) == set(EXERCISES)


@pytest.fixture
def mine(estbench, here, plugin):
    """Write an exercise and change one line of it."""

    def write(exercise, line=None):
        assert estbench("new", "estimator", "mine", "--exercise", exercise).code == 0
        text = (here / "mine.py").read_text()
        assert text.count(f"        {SOLUTIONS[exercise].line}\n") == 1
        (here / "mine.py").write_text(text.replace(SOLUTIONS[exercise].line, line or SOLUTIONS[exercise].line))
        return here / "mine.py"

    return write


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_as_it_is_written_it_fails_and_says_what_is_wrong(mine, estbench, exercise):
    code, said, errors = estbench("check", "--plugin", mine(exercise), "mine")
    assert (code, errors) == (1, "")
    assert "times the exact gradient. Usual causes:" in " ".join(said.split())
    assert "TODO" in mine_text(exercise)


def mine_text(exercise):
    from estbench.cli.new import _template

    return _template(f"exercise_{exercise}.py.txt").template


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_an_answer_passes(mine, exercise):
    load_plugin(mine(exercise, SOLUTIONS[exercise].answer))
    certificate = certify("mine")
    assert certificate.outcome == "passed", "\n".join(certificate.complaints())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exercise", "line", "complaint"),
    [(exercise, *each) for exercise, solution in SOLUTIONS.items() for each in solution.wrong.items()],
)
def test_a_typical_mistake_fails(mine, environment, exercise, line, complaint):
    done = pytest_of(mine(exercise, line), environment)
    assert done.returncode == 1, done.stdout
    assert complaint in done.stdout.replace("_", " ") or complaint in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_test_beside_an_answer_passes(mine, environment, exercise):
    done = pytest_of(mine(exercise, SOLUTIONS[exercise].answer), environment)
    assert done.returncode == 0, done.stdout


def pytest_of(file, environment):
    """Run the test that was written beside an exercise, as a student would."""
    command = [sys.executable, "-m", "pytest", f"test_{file.name}", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False)


def test_without_a_name_it_is_the_last_one(estbench, here):
    assert estbench("new", "estimator", "mine", "--exercise").code == 0
    assert (here / "mine.py").read_text().startswith('"""Exercise `mine`: a baseline')


def test_exercises_are_estimators(refused):
    said = refused("new", "problem", "mine", "--exercise", "pathwise")
    assert "write estbench new estimator NAME --exercise pathwise" in said


def test_an_unknown_exercise_names_those_that_there_are(refused):
    assert all(name in refused("new", "estimator", "mine", "--exercise", "reparam") for name in EXERCISES)
