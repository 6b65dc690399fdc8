"""Numbers in the tables against computations of our own, from the same Parquet files."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from records import ESTIMATORS, analyse, behaviour, codes, throughput_rows, write_results

from estbench.report.tables import all_tables, cells, gradient_variance, summary, throughput
from estbench.report.tables.base import Column, Entry, Table, as_csv, fixed, significant
from estbench.store import ResultsFolder
from estbench.store.tables import THROUGHPUT, read_rows, write_table


def read(folder, name):
    """One Parquet file of every committed cell, by the record beside it."""
    frames = []
    for record in sorted(folder.glob("cells/*/cell.json")):
        told = json.loads(record.read_text(encoding="utf-8"))
        frame = pd.read_parquet(record.parent / name)
        frames.append(
            frame.assign(
                estimator=told["cell"]["estimator"]["label"],
                seed=told["cell"]["seed"],
                status=told["status"],
            )
        )
    return pd.concat(frames, ignore_index=True)


def finals(folder, metric="elbo"):
    """Last test values of finished cells, seeds by estimators."""
    frame = read(folder, "curves.parquet").query("metric == @metric and split == 'test' and status == 'done'")
    last = frame[frame["step"] == 2000]
    return last.pivot_table(index="seed", columns="estimator", values="value")


def t_ends(values):
    values = np.asarray(values, dtype=float)
    return scipy.stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=scipy.stats.sem(values))


def row(table, **where):
    found = table.data
    for column, value in where.items():
        found = found[found[column] == value]
    assert len(found) == 1
    return found.iloc[0]


def entries(table, estimator):
    return next(
        dict(zip([column.title for column in table.columns], line, strict=True))
        for line in table.rows
        if line[0].text == estimator
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_summary_has_the_mean_and_t_interval_of_finished_cells(folder, analysis, estimator):
    values = finals(folder)[estimator].dropna()
    found = row(summary(analysis), estimator=estimator)
    low, high = t_ends(values)
    assert found["test_elbo_n"] == found["done"] == len(values)
    assert (found["test_elbo"], found["test_elbo_low"], found["test_elbo_high"]) == pytest.approx(
        (values.mean(), low, high)
    )
    assert found["test_iwae_final"] == pytest.approx(finals(folder, "iwae_final")[estimator].mean())


@pytest.mark.parametrize(
    ("estimator", "seeds"), [("stl", 3), ("reinforce", 3), ("detached", 3), ("rloo[num_samples=4]", 4)]
)
def test_summary_pairs_differences_by_seed(folder, analysis, estimator, seeds):
    both = finals(folder)[[estimator, "reparam"]].dropna()
    differences = both[estimator] - both["reparam"]
    found = row(summary(analysis), estimator=estimator)
    assert found["difference_of"] == "elbo"
    assert found["difference_n"] == len(differences) == seeds
    assert found["difference"] == pytest.approx(differences.mean())
    assert (found["difference_low"], found["difference_high"]) == pytest.approx(t_ends(differences))


def test_summary_counts_the_diverged_beside_n(analysis):
    table = summary(analysis)
    assert row(table, estimator="reinforce")["diverged"] == 1
    shown = entries(table, "reinforce")
    assert str(shown["runs done"]) == "3 of 4 1 diverged"
    assert shown["test ELBO"].n == 0  # its n is the number of runs done
    assert row(table, estimator="reinforce")["test_elbo_n"] == 3
    assert entries(table, "reparam")["difference to reparam"].text == "reference"
    assert "test IWAE-1000 on 100 images" in shown


def test_fewer_than_three_seeds_get_no_interval(tmp_path):
    table = summary(analyse(write_results(tmp_path / "r", ["reparam", "stl"], 2)))
    found = row(table, estimator="stl")
    assert math.isnan(found["test_elbo_low"])
    assert math.isnan(found["difference_high"])
    assert entries(table, "stl")["test ELBO"].note == ""
    assert "An interval needs 3 seeds." in table.caption


def test_seconds_of_different_machines_are_not_averaged(tmp_path):
    path = write_results(tmp_path / "r", ["reparam", "stl"], 3, environments={1: {"machine": "other"}})
    table = summary(analyse(path))
    assert math.isnan(row(table, estimator="stl")["training_seconds"])
    assert "training seconds (timed in several places)" in table.caption  # the same in every row


@pytest.mark.parametrize(("space", "group"), [("weights", "encoder"), ("params", "log_scale")])
def test_gradient_variance_is_a_geometric_mean_with_paired_ratios(folder, analysis, space, group):
    frame = read(folder, "gradients.parquet").query("status == 'done' and step == 2000 and statistic == 'variance'")
    frame = frame[(frame["space"] == space) & (frame["group"] == group)]
    logs = np.log(frame.pivot_table(index="seed", columns="estimator", values="value"))
    table = gradient_variance(analysis)
    for estimator in ("stl", "reinforce", "rloo[num_samples=4]"):
        found = row(table, estimator=estimator, space=space, group=group)
        mine = logs[estimator].dropna()
        assert found["variance"] == pytest.approx(np.exp(mine.mean()))
        assert (found["variance_low"], found["variance_high"]) == pytest.approx(np.exp(t_ends(mine)))
        ratios = (logs[estimator] - logs["reparam"]).dropna()
        assert found["variance_ratio"] == pytest.approx(np.exp(ratios.mean()))
        assert (found["variance_ratio_low"], found["variance_ratio_high"]) == pytest.approx(np.exp(t_ends(ratios)))
        assert found["variance_ratio_n"] == len(ratios)
        assert found["replicates"] == 100


def test_with_one_seed_the_interval_is_the_probes_own(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 1)
    frame = read(path, "gradients.parquet").query("step == 2000 and statistic == 'variance' and group == 'encoder'")
    table = gradient_variance(analyse(path))
    found = row(table, space="weights", group="encoder")
    assert (found["variance_low"], found["variance_high"]) == (frame["low"].item(), frame["high"].item())
    assert "the interval is that of its draws" in table.caption


def test_gradients_are_compared_at_the_last_checkpoint_all_finished_cells_have(tmp_path):
    path = write_results(tmp_path / "r", ["reparam", "stl"], 3)
    victim = next(iter(sorted(path.glob("cells/stl-*"))))
    frame = pd.read_parquet(victim / "gradients.parquet")
    frame[frame["step"] < 2000].to_parquet(victim / "gradients.parquet", index=False)
    steps = set(gradient_variance(analyse(path)).data["step"])
    assert steps == {sorted(set(frame["step"]))[-2]}


@pytest.mark.parametrize("estimator", ["stl", "rloo[num_samples=4]"])
def test_throughput_ratio_is_paired_by_round(folder, analysis, estimator):
    frame = pd.read_parquet(folder / "throughput.parquet")
    seconds = frame.pivot_table(index="round", columns="estimator", values="seconds") / 20
    logs = np.log(seconds[estimator] / seconds["reparam"])
    found = row(throughput(analysis), estimator=estimator)
    assert found["seconds_ratio"] == pytest.approx(np.exp(logs.mean()))
    assert (found["seconds_ratio_low"], found["seconds_ratio_high"]) == pytest.approx(np.exp(t_ends(logs)))
    rates = np.log(100 / seconds[estimator])
    assert found["examples_per_second"] == pytest.approx(np.exp(rates.mean()))
    assert found["milliseconds_per_step"] == pytest.approx(np.exp(np.log(1e3 * seconds[estimator]).mean()))
    assert found["rounds"] == 8
    # The machine's drift is far wider than the paired interval.
    width = found["seconds_ratio_high"] / found["seconds_ratio_low"]
    assert width < found["examples_per_second_high"] / found["examples_per_second_low"]


def test_throughput_takes_the_latest_session_of_each_and_pools_no_machines(tmp_path):
    path = write_results(tmp_path / "r", ["reparam", "stl"], 1)
    folder, plan = ResultsFolder(path), analyse(path).results
    from estbench.experiment.spec import experiment_from

    spec = experiment_from(plan.plan["experiment"])
    slow = behaviour("stl")._replace(milliseconds=50.0)
    folder.append_throughput(throughput_rows(spec, {"stl": slow}, codes(folder.path), "2025-06-01T00:00:00", "m-2"))
    table = throughput(analyse(path))
    late, early = row(table, estimator="stl"), row(table, estimator="reparam")
    assert late["machine"] == "m-2"
    assert late["milliseconds_per_step"] > 20
    assert late["seconds_ratio_n"] == 0  # its session has no reference
    assert early["machine"] == "m-1"
    assert early["rounds"] == 8


def test_unknown_memory_is_left_open(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 1)
    rows = read_rows(path / "throughput.parquet", THROUGHPUT)
    write_table(path / "throughput.parquet", [{**row, "peak_memory_bytes": None} for row in rows], THROUGHPUT)
    assert entries(throughput(analyse(path)), "reparam")["peak memory, MiB"].text == "\N{EN DASH}"


def test_cells_that_are_not_done_have_no_final_bound(analysis):
    table = cells(analysis)
    diverged = row(table, estimator="reinforce", seed=0)
    assert diverged["status"] == "diverged"
    assert math.isnan(diverged["test_elbo"])
    assert math.isfinite(diverged["last_finite_elbo"])
    assert row(table, estimator="stl", seed=3)["status"] == "missing"
    assert len(table.data) == 24


def test_an_earlier_value_never_stands_in_for_a_last_one_that_is_nan(tmp_path):
    path = write_results(tmp_path / "r", ["reparam"], 3, replicates=0, rounds=0)
    victim = next(iter(sorted(path.glob("cells/*-s1-*"))))
    frame = pd.read_parquet(victim / "curves.parquet")
    frame.loc[frame["step"] == 2000, "value"] = math.nan
    frame.to_parquet(victim / "curves.parquet", index=False)
    found = row(summary(analyse(path)), estimator="reparam")
    assert (found["done"], found["test_elbo_n"]) == (3, 2)


def test_problems_have_their_own_rows_and_column(tmp_path):
    path = write_results(tmp_path / "r", ["reparam", "stl"], 1, problems=["vae", "vae[latent=5]"])
    for table in all_tables(analyse(path)):
        if table.name != "estimators":
            assert set(table.data["problem"]) == {"vae", "vae[latent=5]"}
            assert "problem" in [column.title for column in table.columns]
            assert table.rules


def test_csv_holds_the_numbers_exactly(analysis):
    table = summary(analysis)
    again = pd.read_csv(io.StringIO(table.to_csv()), converters={"test_elbo": float})
    assert list(again["test_elbo"]) == list(table.data["test_elbo"])


HOSTILE = r"<script>alert(1)</script> a&b | 50% $x_1$ #{~^}\ `code` *bold* [x](javascript:y)"


@pytest.fixture
def hostile():
    columns = (Column("estimator", numeric=False, head=True), Column("value"))
    rows = ((Entry(HOSTILE), Entry(significant(-1.5e-7), "[1, 2], n = 3")), (Entry("two\nlines"), Entry("1")))
    return Table("hostile", HOSTILE, HOSTILE, pd.DataFrame({"a": [HOSTILE]}), columns, rows, frozenset({1}))


def test_markdown_escapes(hostile):
    text = hostile.to_markdown()
    assert "<script" not in text
    assert "](" not in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 3
    assert "two lines" in text


def test_latex_escapes(hostile):
    text = hostile.to_latex()
    line = next(line for line in text.splitlines() if "script" in line and line.endswith(r"\\"))
    bare = line.removesuffix(r"\\")
    for name in ("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar"):
        bare = bare.replace(f"\\{name}{{}}", "")
    for sign in "&%$#_{}":
        bare = bare.replace(f"\\{sign}", "")
    assert bare.count("&") == 1  # between the two columns
    assert not set("%#_~^") & set(bare.partition("&")[0])
    assert r"$-$1.50" in text or r"$1.50\times10^{-7}$" in text
    assert text.count("{") == text.count("}")
    assert r"\toprule" in text
    assert text.count(r"\midrule") == 2


def test_numbers_read_well():
    assert fixed(-1234.567) == "\N{MINUS SIGN}1,234.57"
    assert fixed(2.0, sign=True) == "+2.00"
    assert fixed(math.nan) == "\N{EN DASH}"
    assert significant(0.012345) == "0.0123"
    assert significant(0.0) == "0"
    assert significant(2.5e5) == "2.50e5"
    assert significant(1e-6) == "1.00e\N{MINUS SIGN}6"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('=HYPERLINK("http://x")', """'=HYPERLINK("http://x")"""),
        ("@SUM(1)", "'@SUM(1)"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("  =1+1", "'  =1+1"),
        ('"=1+1', """'"=1+1"""),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("-2.5", "-2.5"),
        ("-inf", "-inf"),
        ("rloo[num_samples=4]", "rloo[num_samples=4]"),
        ("a\x1b[2Jb\u202e", r"a\x1b[2Jb\u202e"),
    ],
    ids=ascii,
)
def test_a_spreadsheet_runs_no_text_of_a_csv(text, written):
    frame = pd.DataFrame({"estimator": [text, "b"], "value": [-0.1 + 1e-17, -np.inf], "n": [1, 2]})
    back = pd.read_csv(io.StringIO(as_csv(frame)), dtype={"estimator": str}, converters={"value": float})
    assert back["estimator"].tolist() == [written, "b"]
    assert back[["value", "n"]].equals(frame[["value", "n"]])
    assert as_csv(frame.rename(columns={"n": text})).splitlines()[0].count(",") == 2
