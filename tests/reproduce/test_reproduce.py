"""From a card to its result, its record and its page, as a user sees them."""

from __future__ import annotations

import json

import pytest

from estbench.cli import _exit_code
from estbench.errors import EstbenchError
from estbench.reproduce import read_card, run_card

STUDY = """
from beside import bounds

from estbench.options import BaseOptions
from estbench.reproduce import StudyResult, figure_point, study


class CountingOptions(BaseOptions):
    to: int = 1


@study(CountingOptions)
def count(options):
    if options.to < 0:
        raise RuntimeError("cannot count down")
    points = [figure_point("all", "<b>bold</b>", x, bounds(x, 0.1, 7), expected=x) for x in range(1, options.to + 2)]
    return StudyResult({"count": bounds(options.to, 0.5, 7)}, points, ("x", "y"))
"""
BESIDE = """
from estbench.stats import Interval


def bounds(value, half, n):
    return Interval(value, value - half, value + half, n)
"""


@pytest.fixture
def card(tmp_path):
    (tmp_path / "counting.py").write_text(STUDY, encoding="utf-8")
    (tmp_path / "beside.py").write_text(BESIDE, encoding="utf-8")

    def build(name="counting", *, to=1, verdict="reproduced", value=2.0, quantity="count", claim="One is <i>less</i>."):
        path = tmp_path / f"{name}.toml"
        path.write_text(
            f"""
claim = {json.dumps(claim)}
paper = "williams1992"
where = "Section 1"
protocol = "Count."
deviations = ["None of the paper's numbers was counted."]
computed = "By counting."
tier = "seconds"
study = "counting"
verdict = "{verdict}"
{"" if verdict == "reproduced" else 'finding = "It was more."'}

[options]
to = {to}

[[expect]]
quantity = "{quantity}"
relation = "less"
value = {value}
source = "arithmetic"
""",
            encoding="utf-8",
        )
        return path

    return build


# The study counts to ``to``, give or take 0.5, and the claim is that this is less than two.
@pytest.mark.parametrize("foreseen", ["reproduced", "contradicted", "undecided"])
@pytest.mark.parametrize(("to", "verdict"), [(1, "reproduced"), (2, "undecided"), (5, "contradicted"), (-1, "failed")])
def test_a_result_is_what_the_card_foresees_or_not(card, to, verdict, foreseen):
    result = run_card(read_card(card(to=to, verdict=foreseen)))
    assert (result.verdict, result.as_expected) == (verdict, verdict == foreseen)


def test_a_quantity_that_is_not_computed_is_a_mistake_in_the_card(card):
    with pytest.raises(EstbenchError, match="expects 'cuont', which its study does not compute; it computes count"):
        run_card(read_card(card(quantity="cuont")))


def test_an_unknown_study_or_option_is_one_line(card):
    path = card()
    path.write_text(path.read_text().replace('study = "counting"', 'study = "countng"'))
    with pytest.raises(EstbenchError, match=r"names the study 'countng', but there is no .*countng\.py"):
        run_card(read_card(path))
    path = card()
    path.write_text(path.read_text().replace("to = 1", "too = 1"))
    with pytest.raises(EstbenchError, match="unknown key 'too'; did you mean 'to'"):
        run_card(read_card(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 studies"),
        (STUDY + STUDY.replace("def count", "def again"), "has 2 studies"),
        ("from counted import count", "has 0 studies"),  # the study is that of another file
        ("1 / 0", "counting.py', line 1: .*division by zero"),
    ],
    ids=["none", "two", "imported", "broken"],
)
def test_a_file_that_is_not_one_study_is_one_line(card, tmp_path, text, message):
    path = card()
    (tmp_path / "counted.py").write_text(STUDY, encoding="utf-8")
    (tmp_path / "counting.py").write_text(text, encoding="utf-8")
    with pytest.raises(EstbenchError, match=message):
        run_card(read_card(path))


def test_a_study_is_of_the_folder_of_its_card(card, tmp_path):
    """Two folders may each have a study of one name; a link out of the folder is not followed."""
    first, other = card(), tmp_path / "other"
    other.mkdir()
    moved = other / "counting.toml"
    moved.write_text(first.read_text(), encoding="utf-8")
    with pytest.raises(EstbenchError, match=r"there is no .*other"):
        run_card(read_card(moved))
    (other / "counting.py").symlink_to(tmp_path / "counting.py")
    with pytest.raises(EstbenchError, match="link out of the folder"):
        run_card(read_card(moved))
    (other / "counting.py").unlink()
    (other / "counting.py").write_text(STUDY.replace("0.5, 7", "0.5, 8"), encoding="utf-8")
    (other / "beside.py").write_text(BESIDE, encoding="utf-8")
    assert [run_card(read_card(path)).judged[0].measured.n for path in (first, moved)] == [7, 8]


def test_listing_cards_runs_no_study(card, tmp_path, capsys):
    path = card()
    (tmp_path / "counting.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    assert _exit_code(["reproduce", str(path), "--list"]) == 0
    assert "counting" in capsys.readouterr().out


def test_the_command_writes_a_page_and_succeeds(card, tmp_path, capsys):
    assert _exit_code(["reproduce", str(card()), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "1.00" in shown
    assert "reproduced" in shown
    page = (tmp_path / "out" / "reproductions.html").read_text(encoding="utf-8")
    assert "One is &lt;i&gt;less&lt;/i&gt;." in page
    assert "<svg" in page
    assert "None of the paper" in page
    assert {path.suffix for path in (tmp_path / "out" / "figures").iterdir()} == {".svg", ".png", ".csv"}
    record = json.loads((tmp_path / "out" / "cards" / "counting.json").read_text())
    assert record["verdict"] == "reproduced"
    assert record["environment"]["torch"]


def test_a_claim_that_should_reproduce_and_does_not_fails_the_command(card, tmp_path):
    assert _exit_code(["reproduce", str(card(to=5)), "--out", str(tmp_path / "out")]) == 1
    known = card("known", to=5, verdict="contradicted")
    assert _exit_code(["reproduce", str(known), "--out", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out" / "reproductions.md").read_text(encoding="utf-8")
    assert table.startswith("0 of 2 claims are reproduced, 2 contradicted.")
    assert "It was more." in (tmp_path / "out" / "reproductions.html").read_text(encoding="utf-8")


def test_a_study_that_fails_stops_no_other_card(card, tmp_path, capsys):
    bad, good = card("bad", to=-1), card("good")
    assert _exit_code(["reproduce", str(bad), str(good), "--out", str(tmp_path / "out"), "--json"]) == 1
    verdicts = {result["card"]["name"]: result["verdict"] for result in json.loads(capsys.readouterr().out)}
    assert verdicts == {"bad": "failed", "good": "reproduced"}
    assert "cannot count down" in (tmp_path / "out" / "reproductions.html").read_text(encoding="utf-8")


def test_the_same_records_give_the_same_page(card, tmp_path):
    out = tmp_path / "out"
    assert _exit_code(["reproduce", str(card()), "--out", str(out)]) == 0
    first = (out / "figures" / "counting.svg").read_bytes()
    assert _exit_code(["reproduce", str(card()), "--out", str(out)]) == 0
    assert (out / "figures" / "counting.svg").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-card"], "no card 'no-such-card'"),
        (["x.toml", "--tier", "seconds"], "name cards or a --tier, not both"),
        (["no.toml"], "no card 'no.toml'"),
    ],
)
def test_misuse_is_one_line(arguments, message, capsys):
    assert _exit_code(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda kept: kept.update(schema=2), "which an earlier estbench wrote"),
        (lambda kept: kept.pop("points"), "points: is required"),
        (lambda kept: kept["expectations"][0].update(n="many"), "expectations.0.n"),
        (lambda kept: kept["expectations"][0].update(quantity="other"), "'count', which the card expects"),
        (lambda kept: kept["card"].update(name="other"), "is of the card 'other'"),
        (lambda kept: kept.update(points=[{**kept["points"][0], "panel": str(at)} for at in range(99)]), "at most 24"),
    ],
    ids=["schema", "gap", "type", "quantity", "name", "panels"],
)
def test_an_earlier_result_that_is_none_is_named_and_left_out(card, capsys, tmp_path, change, complaint):
    out = tmp_path / "out"
    assert _exit_code(["reproduce", str(card("first")), "--out", str(out)]) == 0
    first = out / "cards" / "first.json"
    kept = json.loads(first.read_text())
    change(kept)
    first.write_text(json.dumps(kept))
    capsys.readouterr()
    assert _exit_code(["reproduce", str(card("second")), "--out", str(out)]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "Warning" in line]
    assert complaint in warning
    assert "second" in (out / "reproductions.csv").read_text()


def test_a_result_is_on_the_page_with_the_card_that_it_had(card, tmp_path):
    """An own card need not be named again; what is stored as its verdict counts for nothing, its numbers do."""
    out = tmp_path / "out"
    assert _exit_code(["reproduce", str(card("mine")), "--out", str(out)]) == 0
    record = out / "cards" / "mine.json"
    kept = json.loads(record.read_text())
    kept["expectations"][0] |= {"low": 1.5, "high": 2.5}
    record.write_text(json.dumps(kept))
    assert _exit_code(["reproduce", str(card("other")), "--out", str(out)]) == 0
    lines = (out / "reproductions.csv").read_text(encoding="utf-8").splitlines()
    (mine,) = [line for line in lines if line.startswith("mine,")]
    assert mine.count("undecided") == 2
    assert kept["verdict"] == "reproduced"
