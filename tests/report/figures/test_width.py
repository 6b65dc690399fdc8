"""Figures for an article: as wide as asked for, nothing cut at the edges, fonts that journals take."""

from __future__ import annotations

import pytest
from records import analyse, write_results

from estbench import EstbenchError
from estbench.report import build
from estbench.report.figures import all_figures
from estbench.report.figures.style import FONT, WIDTH, matplotlib_style

LABELS = ["reparam", "stl", "rloo", "reinforce[baseline=nvil]"]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return analyse(write_results(tmp_path_factory.mktemp("width") / "r", LABELS, 3))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("width", [3.3, 12, 5.5, 7.4])
def test_figures_are_as_wide_as_asked_for_and_hold_their_text(records, width):
    figures = all_figures(records, width)
    assert len(figures) > 10
    for each in figures:
        inches = each.figure.get_size_inches()[0]
        assert inches == width or (each.name == "final_bounds" and inches < width)
        if width == 3.3:
            assert {axes.xaxis.label.get_fontsize() for axes in each.figure.axes} == {FONT - 1} == {8}
        with matplotlib_style(width):
            drawn = each.figure.get_tightbbox()  # inches, with all text that is drawn
        assert -0.02 <= drawn.x0 < drawn.x1 <= inches + 0.02, each.name
        assert -0.02 <= drawn.y0 < drawn.y1 <= each.figure.get_size_inches()[1] + 0.02, each.name


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, 3.3])
def test_fonts_of_a_pdf_are_of_type_42(records, tmp_path, width):
    build(records, ["pdf", "html"], out=tmp_path, width=width)
    files = sorted((tmp_path / "figures").glob("*.pdf"))
    assert files
    for file in files:
        content = file.read_bytes()
        assert b"/Type3" not in content
        assert b"/CIDFontType2" in content
    # The page has figures of its own width.
    assert f'viewBox="0 0 {WIDTH * 72:g} ' in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("formats", [["pdf"], ["md"]])
@pytest.mark.parametrize("width", [0, 2.9, 20.1, float("nan"), float("inf")])
def test_a_width_that_no_figure_has_is_refused(records, tmp_path, width, formats):
    with pytest.raises(EstbenchError, match="3 to 20 inches wide, not"):
        build(records, formats, out=tmp_path / "out", width=width)
    assert not (tmp_path / "out").exists()
