"""The page as its readers use it: in a browser, by mouse and by keyboard, wide and narrow, in the dark, on paper."""

from __future__ import annotations

import pytest
from records import ESTIMATORS, write_results

from estbench.report import build

pytestmark = pytest.mark.browser

LATEX = "\\begin{tabular}"
# The estimators by rank: the first table of the page.
TABLE = "#answer > .scroll table"


def column(table, at):
    """The values of a column from top to bottom, of the rows that are shown."""
    return table.locator(f"tbody tr:visible > :nth-child({at})").evaluate_all(
        "cells => cells.map(c => c.dataset.value)"
    )


def numbers(texts):
    return [float(text.replace("\N{MINUS SIGN}", "-").replace(",", "")) for text in texts]


def at_point(page, figure, series, point):
    """Where a point of a figure is on the screen."""
    return figure.evaluate(
        """(figure, [series, point]) => {
            const svg = figure.querySelector('svg');
            const [x, y, words] = JSON.parse(figure.dataset.series)[series][1][point];
            const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
            return [at.x, at.y, words];
        }""",
        [series, point],
    )


def test_sorting(page):
    table = page.locator(TABLE)
    before = column(table, 2)
    assert sorted(before) == sorted(ESTIMATORS)
    title = table.locator("thead th").nth(2)  # the bound; ranks are by it
    values = numbers(column(table, 3))
    assert values != sorted(values)
    title.locator("button").click()
    assert title.get_attribute("aria-sort") == "ascending"
    assert numbers(column(table, 3)) == sorted(values)
    title.locator("button").click()
    assert title.get_attribute("aria-sort") == "descending"
    assert numbers(column(table, 3)) == sorted(values, reverse=True)
    title.locator("button").click()
    assert title.get_attribute("aria-sort") is None
    assert column(table, 2) == before


def test_sorting_by_keyboard_and_what_is_no_number_last(page):
    table = page.locator(TABLE)
    button = table.locator("thead th").nth(3).locator("button")  # the gap to the best
    for order in ("ascending", "descending"):
        button.focus()
        page.keyboard.press("Enter")
        values = column(table, 4)
        assert values[-1] == "best"
        assert numbers(values[:-1]) == sorted(numbers(values[:-1]), reverse=order == "descending")
    name = table.locator("thead th").nth(1).locator("button")
    name.focus()
    page.keyboard.press("Space")
    assert column(table, 2) == sorted(ESTIMATORS)


def test_an_estimator_is_hidden_in_tables_and_figures(page):
    table, drawn = page.locator(TABLE), page.locator("svg [data-estimator='0']")
    before = column(table, 2)
    assert drawn.count() > 10
    box = page.locator("#estimators input").first
    assert box.get_attribute("value") == "reparam"
    box.focus()
    page.keyboard.press("Space")
    assert column(table, 2) == [label for label in before if label != "reparam"]
    assert drawn.evaluate_all("all => all.every(one => getComputedStyle(one).visibility === 'hidden')")
    others = page.locator("svg [data-estimator='1']")
    assert others.evaluate_all("all => all.every(one => getComputedStyle(one).visibility === 'visible')")
    assert "5 of 6 shown" in page.locator("#shown").text_content()
    page.locator("#none").click()
    assert column(table, 2) == []
    page.locator("#all").click()
    assert column(table, 2) == before


def test_every_figure_can_be_read_by_hovering(page):
    figures = page.locator("figure[data-series]")
    assert figures.count() == 8
    for at in range(figures.count()):
        figure = figures.nth(at)
        figure.scroll_into_view_if_needed()
        figure.evaluate("figure => figure.scrollIntoView({block: 'center'})")
        x, y, words = at_point(page, figure, 0, 0)
        page.mouse.move(x, y)
        output = figure.locator("output")
        place = figure.evaluate("figure => JSON.parse(figure.dataset.series)[0][0]")
        assert output.text_content() == f"{ESTIMATORS[place]} {words}"
        assert "n = " in words or words.startswith("seed ")
        ring = figure.locator(".ring").bounding_box()
        assert ring["x"] + ring["width"] / 2 == pytest.approx(x, abs=1)
        assert ring["y"] + ring["height"] / 2 == pytest.approx(y, abs=1)
        page.mouse.move(2, 2)
        assert output.text_content() == ""


def test_what_is_hidden_is_not_read(page):
    figure = page.locator("figure[data-series]").nth(1)
    page.locator("#estimators input").first.uncheck()
    figure.evaluate("figure => figure.scrollIntoView({block: 'center'})")
    page.mouse.move(*at_point(page, figure, 0, 0)[:2])
    assert not figure.locator("output").text_content().startswith("reparam ")


def test_figures_are_read_by_keyboard(page):
    figure = page.locator("figure[data-series]").nth(1)
    words = figure.evaluate("figure => JSON.parse(figure.dataset.series).map(one => one[1].map(point => point[2]))")
    output = figure.locator("output")
    figure.locator(".card").focus()
    page.keyboard.press("ArrowRight")
    assert output.text_content() == f"reparam {words[0][0]}"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert output.text_content() == f"reparam {words[0][1]}"
    page.keyboard.press("ArrowDown")
    assert output.text_content().startswith("stl step ")
    page.keyboard.press("Escape")
    assert output.text_content() == ""


def test_a_table_is_copied_as_latex(show, report):
    page = show(report, permissions=["clipboard-read", "clipboard-write"])
    page.locator("#answer > .latex button.copy").click()
    page.locator("#answer > .latex [role=status]", has_text="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == (report.parent / "tables" / "ranking.tex").read_text(encoding="utf-8")


def test_without_a_clipboard_the_latex_is_selected(show, report):
    page = show(report)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.locator("#answer > .latex button.copy").click()
    page.locator("#answer > .latex details[open]").wait_for()
    assert LATEX in page.evaluate("getSelection().toString()")


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_all_can_be_read(show, report, width, scheme):
    page = show(report, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Contrast of text and ground, of figures as of the page (WCAG: at least 4.5).
    light = "c => { const [r, g, b] = c.match(/[0-9.]+/g).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; }"  # noqa: E501
    style = "getComputedStyle(document.querySelector('{}')).{}"
    ground = page.evaluate(f"({light})({style.format('body', 'backgroundColor')})")
    for selector in ("body", ".note", "a", "figcaption", "thead th"):
        ink = page.evaluate(f"({light})({style.format(selector, 'color')})")
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, selector
    assert (ground < 0.05) == (scheme == "dark")
    assert (page.evaluate(style.format(".card svg", "filter")) != "none") == (scheme == "dark")


def test_on_paper_the_controls_are_gone_and_the_cells_are_there(show, report):
    page = show(report, viewport={"width": 794, "height": 1123})
    assert not page.locator("#completion details table").is_visible()
    page.emulate_media(media="print")
    assert page.locator("#completion details table").bounding_box()["height"] > 100
    for control in ("nav", "#estimators", "button.copy", ".latex details"):
        assert not page.locator(control).first.is_visible()


def test_everything_is_there_without_javascript(show, report):
    page = show(report, java_script_enabled=False)
    assert page.locator("figure svg[role=img]").count() == 8
    assert page.locator(f"{TABLE} tbody tr").count() == len(ESTIMATORS)
    assert page.locator("button:visible").count() == 0
    assert not page.locator("#estimators").is_visible()
    page.locator("#answer > .latex summary").click()
    assert LATEX in page.locator("#answer > .latex code").inner_text()


def test_focus_is_seen(page):
    page.locator("#answer > .latex .copy").focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML.slice(0, 100)")


def test_hostile_labels_stay_inert(show, tmp_path):
    labels = {
        "reparam": "<img src=x onerror=alert(1)>",
        "stl": "'\"><script>alert(2)</script>",
        "reinforce": "--><svg onload=alert(3)>",
    }
    path = write_results(tmp_path / "r", list(labels), 3, labels=labels, question="</script><script>alert(4)</script>")
    page = show(build(path))
    page.locator("#estimators > summary").click()
    page.locator("#estimators input").nth(1).uncheck()
    page.locator(f"{TABLE} thead button").nth(1).click()
    assert column(page.locator(TABLE), 2) == [labels["reinforce"], labels["reparam"]]
    figure = page.locator("figure[data-series]").first
    figure.locator(".card").focus()
    page.keyboard.press("ArrowRight")
    assert figure.locator("output").text_content().startswith(labels["reparam"])
    assert page.locator("img, script").count() == 1
