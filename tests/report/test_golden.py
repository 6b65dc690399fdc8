"""The same records give the same tables and figure data, on every machine.

After a change that is meant, write the golden files anew and read the diff:

    python tests/report/test_golden.py
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("golden")
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")


def texts(report: Path) -> dict[str, str]:
    """The files of a report that hold numbers as text, by name."""
    return {
        file.relative_to(report).as_posix(): told(file.read_text(encoding="utf-8"))
        for file in sorted(report.rglob("*"))
        if file.suffix in {".csv", ".md", ".tex"}
    }


def told(text: str) -> str:
    """Ten digits of a number: the last bits of exp and log differ between processors, and no more may."""
    return NUMBER.sub(lambda match: f"{float(match[0]):.10g}" if len(match[0]) > 10 else match[0], text)


def build_report(path: Path) -> Path:
    """A report with a cell of every kind that tables treat differently."""
    from records import write_results

    from estbench.report import build

    write_results(
        path,
        ["reparam", "rloo[num_samples=4]", "reinforce", "detached"],
        3,
        statuses={("reinforce", 0): "diverged", ("detached", 2): None, ("detached", 1): "failed"},
        stops={("reinforce", 0): 800, ("detached", 1): 0},
        rounds=4,
    )
    return build(path, ["csv", "md", "tex"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return texts(build_report(tmp_path_factory.mktemp("golden") / "comparison"))


@pytest.fixture(scope="module")
def golden():
    return texts(GOLDEN)


def test_the_same_files_are_made(made, golden):
    assert sorted(made) == sorted(golden)
    assert any(name.startswith("tables/summary.") for name in made)


def same(text: str, golden: str) -> bool:
    """Whether the words are the same, and the numbers but for a tenth digit that may be rounded to either side."""
    numbers = [[float(number) for number in NUMBER.findall(each)] for each in (text, golden)]
    return NUMBER.split(text) == NUMBER.split(golden) and numbers[0] == pytest.approx(numbers[1], rel=1e-9, abs=0)


@pytest.mark.parametrize("name", sorted(texts(GOLDEN)))
def test_their_text_is_the_same(made, golden, name):
    assert same(made[name], golden[name]), (made[name], golden[name])


def test_a_changed_number_or_word_would_be_seen():
    assert told("1.23456789012345") == told("1.23456789012346") != told("1.23456788")
    assert told("a,0.5,-1.5e-7\n") == "a,0.5,-1.5e-7\n"
    assert same("a,381.9434965", "a,381.9434964")
    for other in ("a,381.9434974", "b,381.9434964", "a,381.9434964,1.0", "a,"):
        assert not same(other, "a,381.9434964")


def main() -> None:
    """Write the golden files."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    shutil.rmtree(GOLDEN, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in texts(build_report(Path(scratch) / "comparison")).items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_text(text, encoding="utf-8")
    print(f"written: {GOLDEN}")


if __name__ == "__main__":
    main()
