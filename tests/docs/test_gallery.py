"""Every estimator, problem, ready experiment and recorded column has its place on a generated page."""

from __future__ import annotations

import re

import pytest

from estbench import estimators, problems
from estbench.certify import certified_variants
from estbench.estimators import BIBTEX
from estbench.experiment import read_experiment
from estbench.experiment.spec import shipped_experiments
from estbench_site import repository
from estbench_site.distributions import COMPARED, REPLICATES, draw_picture, example_of, share_outside, span_of
from estbench_site.estimators import estimator_page
from estbench_site.pages import generated_pages, write_pages

pytestmark = pytest.mark.usefixtures("one_thread")

# One of each kind of problem that examples are drawn on; the others are drawn when the site is built.
DRAWN = ("reparam", "disarm", "gumbel-softmax", "implicit", "vimco")


@pytest.fixture(scope="module")
def pages():
    return {place: make() for place, make in generated_pages().items()}


def test_each_has_a_page(pages):
    named = {
        "estimators": estimators.names(),
        "problems": problems.names(),
        "experiments": list(shipped_experiments()),
    }
    for kind, names in named.items():
        assert len(names) > 5
        folder = f"gallery/{kind}/"
        made = {place.removeprefix(folder).removesuffix(".md") for place in pages if place.startswith(folder)}
        assert made == {*names, "index"}
        overview = pages[f"gallery/{kind}/index.md"]
        assert all(f"[{name}]({name}.md)" in overview for name in names)
        assert set(overview.rpartition(":hidden:")[2].strip(" `\n").split()) == set(names)


@pytest.mark.parametrize("name", estimators.names())
def test_a_page_says_all_that_is_known_of_an_estimator(name, pages):
    page, facts = pages[f"gallery/estimators/{name}.md"], estimators.describe(name)
    assert facts["documentation"].partition("\n")[0].replace("<", "\\<") in page
    assert f"| requires | {estimators.requires(name)} |" in page
    assert all(f"| `{option}` |" in page for option in facts["options"])
    assert BIBTEX.get(facts["reference"], "") in page
    for variant in certified_variants(name):
        assert f"| `{variant.label}` | {variant.status} |" in page
    assert ">>> " not in re.sub(r"```pycon.*?```", "", page, flags=re.DOTALL)


def test_a_page_says_where_an_estimator_stands(pages):
    ranking = (repository.RESULTS / "mnist_gaussian" / "report" / "tables" / "ranking.md").read_text(encoding="utf-8")
    bound = re.search(r"\| 1 \| stl \| \*\*(\S+)\*\*", ranking)[1]
    (row,) = [line for line in pages["gallery/estimators/stl.md"].splitlines() if "mnist_gaussian" in line]
    assert "1 of 6" in row
    assert bound in row
    assert "In the committed results" not in pages["gallery/estimators/spsa.md"]


@pytest.mark.parametrize("name", problems.names())
def test_a_page_says_all_that_is_known_of_a_problem(name, pages):
    page, facts = pages[f"gallery/problems/{name}.md"], problems.describe(name)
    assert facts["documentation"].partition("\n")[0] in page
    assert all(f"| `{option}` |" in page for option in facts["options"])
    assert problems.PROBLEMS.resolve(name).card in page


@pytest.mark.parametrize(("name", "file"), shipped_experiments().items())
def test_a_page_has_the_texts_and_the_file_of_an_experiment(name, file, pages):
    page, experiment = pages[f"gallery/experiments/{name}.md"], read_experiment(file)
    assert experiment.question in page
    assert file.read_text(encoding="utf-8") in page
    for text in (experiment.expect, experiment.answer, *experiment.surprise, *experiment.limits):
        assert text in page
    report = repository.RESULTS / name / "report" / "report.html"
    assert report.is_file() == ("The report" in page)


def test_links_between_pages_and_to_the_repository_lead_somewhere(pages):
    followed = 0
    for place, text in pages.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            there = (repository.DOCS / place).parent / target
            inside = there.resolve().relative_to(repository.ROOT)
            assert inside.as_posix().removeprefix("docs/") in pages or (repository.ROOT / inside).is_file(), target
            followed += 1
    assert followed > 100


@pytest.mark.parametrize("name", DRAWN)
def test_the_example_of_an_unbiased_estimator_has_the_exact_mean(name, tmp_path):
    example = example_of(name, replicates=500)
    assert example.compared in COMPARED.values()
    for draws in (*example.draws, *example.others):
        assert draws.values.shape == (500,)
        error = draws.values.std(ddof=1) / 500**0.5
        if name != "gumbel-softmax":
            assert abs(draws.values.mean() - draws.exact) < 5 * error + 1e-6
    for ours, other in zip(example.draws, example.others, strict=True):
        low, high = span_of(ours, other)
        assert low < ours.exact < high
        assert share_outside(ours, (low, high)) <= 0.06
    draw_picture(example.draws[0], example.others[0], "dark", tmp_path / "a.svg")
    draw_picture(example.draws[0], example.others[0], "dark", tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    page = estimator_page(name, example)
    assert "Histogram of 500 independent estimates on" in page
    assert all(f"| {draws.coordinate} | {draws.exact:.4f} |" in page for draws in example.draws)


def test_writing_replaces_what_is_old(tmp_path, monkeypatch):
    """With two pages of all, for time."""
    made = generated_pages()
    few = {place: made[place] for place in ("gallery/estimators/reparam.md", "gallery/problems/index.md")}
    monkeypatch.setattr("estbench_site.pages.generated_pages", lambda: few)
    old = tmp_path / "gallery" / "problems" / "gone.md"
    old.parent.mkdir(parents=True)
    old.write_text("gone", encoding="utf-8")
    write_pages(tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    pictures = {f"gallery/estimators/reparam-{at}-{theme}.svg" for at in (1, 2) for theme in ("light", "dark")}
    assert files == {*few, *pictures}
    assert f"{REPLICATES:,} independent estimates" in (tmp_path / "gallery/estimators/reparam.md").read_text("utf-8")


def test_generators_need_no_sphinx():
    sources = {path.stem: path.read_text(encoding="utf-8") for path in (repository.DOCS / "_extensions").rglob("*.py")}
    assert {
        name for name, text in sources.items() if re.search(r"^(from|import) (sphinx|docutils)", text, re.MULTILINE)
    } == {"extension"}
