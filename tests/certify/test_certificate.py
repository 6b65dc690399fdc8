"""A whole certificate: which modules it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

PLUGIN = """
from estbench.estimators import register
from estbench.estimators.score_function import RLOO


@register("mine")
class Mine(RLOO):
    summary = "a plugin"
"""
# The checks on small problems are left out, for time.
SCRIPT = """
import sys
from estbench.certify import certificate
from estbench.plugins import load_plugin

certificate._check_on = lambda tested, problem, quick: ()
load_plugin(sys.argv[1])
for name in ("mine", "muprop"):
    made = certificate.certify(name)
    print(name, "estbench.certify.theory" in sys.modules, *(check.name for check in made.checks))
"""


@pytest.mark.slow
def test_the_theory_of_estimators_that_ship_is_not_imported_for_a_plugin(environment, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    arguments = [sys.executable, "-c", SCRIPT, str(plugin)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["mine False supports", "muprop True supports known exactness"]
