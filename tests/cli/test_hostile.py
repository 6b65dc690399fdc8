"""Strings of a stranger's folder: no command shows one that steers the terminal, and no CSV holds a formula."""

from __future__ import annotations

import json

import pytest

HIDDEN = "\x1b\x07\x9b\u202e\x00\u200b"
EVIL = f"=\x1b[2J{HIDDEN}evil\ud800[bold]x[/] :smile:"


@pytest.mark.slow
def test_what_a_strangers_folder_says_is_clean(estbench, here, tiny_file):
    assert estbench("run", tiny_file, "-e", "reparam", "-e", "stl", "--out", "r", "--steps", 4).code == 0
    file = here / "r" / "experiment.json"
    plan = json.loads(file.read_text())
    for cell in plan["cells"]:
        if cell["estimator"]["name"] == "stl":
            cell["estimator"]["label"] = EVIL
    plan["experiment"]["question"] = EVIL
    file.write_text(json.dumps(plan))
    for record in here.glob("r/cells/*/cell.json"):
        remarks = [{"step": 1, "measurement": EVIL, "message": EVIL}]
        record.write_text(json.dumps({**json.loads(record.read_text()), "stop_reason": EVIL, "remarks": remarks}))
    commands = (["status", "r"], ["status", "r", "--json"], ["report", "r"], ["merge", "r", "-o", "m"])
    answers = [estbench(*command) for command in (*commands, ["compare", "r", "reparam", f"{EVIL[:-1]}?"])]
    assert [answer.code for answer in answers] == [0, 0, 0, 0, 2]
    differences = [estbench("diff", "r", "m", "--format", form) for form in ("text", "md", "csv")]
    assert [answer.code for answer in differences] == [0, 0, 0]
    answers += differences
    for answer in answers:
        assert not set(HIDDEN) & set(answer.out + answer.err)
    assert r"\x1b[2J" in answers[0].out
    assert "[bold]x[/] :smile:" in answers[0].out
    for table in [*here.glob("r/report/tables/*.csv"), *here.glob("r/report/tables/*.md")]:
        text = table.read_text("utf-8")
        assert not set(HIDDEN) & set(text)
        assert table.suffix != ".csv" or not ("\n=" in text or ",=" in text)
