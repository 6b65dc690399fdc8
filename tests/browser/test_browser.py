"""The page as its readers use it: in a browser, by mouse and by keyboard, wide and narrow, in the dark, on paper."""

from __future__ import annotations

import pytest
from records import ESTIMATORS, write_results

from estbench.report import build
from estbench.report.analysis.wording import NOTHING

pytestmark = pytest.mark.browser

LATEX = "\\begin{tabular"
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
    title = table.locator("thead th").nth(4)  # seeds behind; ranks are by the bound
    values = column(table, 5)
    orders = []
    for _ in range(3):
        title.locator("button").click()
        orders.append((title.get_attribute("aria-sort"), column(table, 5)))
    assert {order for order, _ in orders[:2]} == {"ascending", "descending"}
    assert orders[2][0] is None
    assert orders[2][1] == values
    assert column(table, 2) == before
    firsts = dict(orders[:2])
    known = [value for value in firsts["ascending"] if value[0].isdigit()]
    assert numbers([value.split()[0] for value in known]) == sorted(numbers([value.split()[0] for value in known]))


def test_sorting_by_keyboard_and_what_is_no_number_last(page):
    table = page.locator(TABLE)
    button = table.locator("thead th").nth(3).locator("button")  # the gap to the best
    for order in ("ascending", "descending"):
        button.focus()
        page.keyboard.press("Enter")
        values = column(table, 4)
        shown = table.locator("tbody tr > :nth-child(4)").all_inner_texts()
        assert shown[0 if order == "ascending" else -1] == "best"  # the smallest gap
        gaps = numbers([value.split()[0] for value in values])
        assert gaps == sorted(gaps, reverse=order == "descending")
    seeds = table.locator("thead th").nth(4).locator("button")
    for _ in range(2):
        seeds.focus()
        page.keyboard.press("Enter")
        assert column(table, 5)[-1] == NOTHING  # of the best
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


def show_all_views(page):
    page.add_style_tag(content=".tabs > .view { display: block !important; }")


def test_every_figure_can_be_read_by_hovering(page):
    show_all_views(page)
    figures = page.locator("figure[data-series]")
    assert figures.count() == 13
    for at in range(figures.count()):
        figure = figures.nth(at)
        figure.evaluate("figure => figure.scrollIntoView({block: 'center'})")
        x, y, words = at_point(page, figure, 0, 0)
        page.mouse.move(x, y)
        output = figure.locator("output")
        place = figure.evaluate("figure => JSON.parse(figure.dataset.series)[0][0]")
        said = output.text_content()
        assert ESTIMATORS[place] in said
        assert words.partition(": ")[2] in said or words in said
        line = figure.locator(".cursor").bounding_box()
        curves = figure.evaluate(
            "figure => JSON.parse(figure.dataset.boxes)[JSON.parse(figure.dataset.series)[0][2]][4]"
        )
        if curves:
            assert line["x"] + line["width"] / 2 == pytest.approx(x, abs=1)
        page.mouse.move(2, 2)
        assert not output.is_visible()


def test_all_curves_are_read_at_the_place_of_the_pointer(page):
    figure = page.locator("#convergence figure[data-series]").first
    figure.evaluate("figure => figure.scrollIntoView({block: 'center'})")
    x, y, words = at_point(page, figure, 0, 5)
    page.mouse.move(x, y)
    lines = figure.locator("output span").all_text_contents()
    assert lines[0] == words.partition(": ")[0] + ": "
    drawn = figure.evaluate("figure => new Set(JSON.parse(figure.dataset.series).map(one => one[0])).size")
    assert len(lines) - 1 >= drawn - 1  # one of them stopped before
    values = numbers([line.split(" nats")[0].split()[-1] for line in lines[1:]])
    assert values == sorted(values, reverse=True)  # from top to bottom, as they are drawn


def test_one_view_is_shown_at_a_time(page):
    tabs = page.locator("#convergence .tabs").first
    words = tabs.locator("label").all_text_contents()
    assert words == ["steps", "evaluations", "seconds", "gap to the best", "IWAE-16"]
    views = tabs.locator(".view")
    for at in range(len(words)):
        tabs.locator("label").nth(at).click()
        assert [views.nth(other).is_visible() for other in range(len(words))] == [
            at == other for other in range(len(words))
        ]
    tabs.locator("input").last.focus()
    page.keyboard.press("ArrowLeft")
    assert views.nth(3).is_visible()


def test_a_figure_is_enlarged_and_moved(page):
    figure = page.locator("#convergence figure[data-series]").first
    figure.evaluate("figure => figure.scrollIntoView({block: 'center'})")
    svg = figure.locator("svg").first
    whole = [float(part) for part in svg.get_attribute("viewBox").split()]
    figure.locator("[data-zoom=in]").click()
    part = [float(each) for each in svg.get_attribute("viewBox").split()]
    assert part[2] == pytest.approx(whole[2] / 1.6)
    box = figure.locator(".card").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.up()
    moved = [float(each) for each in svg.get_attribute("viewBox").split()]
    assert moved[0] > part[0]
    assert moved[1] > part[1]
    figure.locator("[data-zoom=whole]").click()
    assert [float(each) for each in svg.get_attribute("viewBox").split()] == pytest.approx(whole)


def test_what_is_hidden_is_not_read(page):
    figure = page.locator("figure[data-series]").nth(1)
    page.locator("#estimators input").first.uncheck()
    figure.evaluate("figure => figure.scrollIntoView({block: 'center'})")
    page.mouse.move(*at_point(page, figure, 0, 0)[:2])
    assert "reparam " not in " ".join(figure.locator("output b").all_text_contents()) + " "


def test_figures_are_read_by_keyboard(page):
    figure = page.locator("figure[data-series]").nth(1)
    words = figure.evaluate("figure => JSON.parse(figure.dataset.series).map(one => one[1].map(point => point[2]))")
    said = figure.locator("output .now")
    figure.locator(".card").focus()

    def value(series, point):
        return words[series][point].partition(": ")[2]

    page.keyboard.press("ArrowRight")
    assert said.text_content() == f"reparam {value(0, 0)}"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert said.text_content() == f"reparam {value(0, 1)}"
    page.keyboard.press("End")
    assert said.text_content() == f"reparam {value(0, -1)}"
    page.keyboard.press("Home")
    assert said.text_content() == f"reparam {value(0, 0)}"
    page.keyboard.press("ArrowDown")
    assert said.text_content().startswith("stl ")
    page.keyboard.press("Escape")
    assert not figure.locator("output").is_visible()


def test_titles_of_a_table_are_one_stop_of_the_tab_key(page):
    buttons = page.locator(f"{TABLE} thead button")
    assert buttons.evaluate_all("all => all.filter(one => one.tabIndex === 0).length") == 1
    buttons.first.focus()
    page.keyboard.press("ArrowRight")
    assert buttons.nth(1).evaluate("button => button === document.activeElement")
    page.keyboard.press("End")
    assert buttons.last.evaluate("button => button === document.activeElement")


def test_the_first_stop_of_the_tab_key_leads_to_the_answer(show, report):
    page = show(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.hash") == "#answer"


@pytest.mark.parametrize("width", [1280, 400])
def test_what_is_pressed_is_large_enough_for_a_finger(show, report, width):
    page = show(report, viewport={"width": width, "height": 900})
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, summary, nav a, .tabs label')].filter(one => {
            const { width, height } = one.getBoundingClientRect();
            return width && (height < 24 || width < 24);
        }).map(one => one.outerHTML.slice(0, 80))"""
    )
    assert small == []


def test_on_a_phone_the_names_of_curves_stand_below(show, report):
    page = show(report, viewport={"width": 400, "height": 900})
    legend = page.locator("#convergence figure .legend").first
    assert legend.is_visible()
    assert legend.locator("li").all_text_contents()[0] == "reparam"


def test_a_table_that_scrolls_fades_and_can_be_reached(show, report):
    page = show(report, viewport={"width": 400, "height": 900})
    box = page.locator("#answer > .scroll")
    assert "more" in box.get_attribute("class").split()
    assert box.get_attribute("tabindex") == "0"
    wide = show(report, viewport={"width": 1280, "height": 900}).locator("#answer > .scroll")
    assert "more" not in wide.get_attribute("class").split()
    assert wide.get_attribute("tabindex") is None


def test_a_table_is_copied_as_latex(show, report):
    page = show(report, permissions=["clipboard-read", "clipboard-write"])
    page.locator("#answer .texts > .latex button.copy").click()
    page.locator("#answer .texts > .latex [role=status]", has_text="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == (report.parent / "tables" / "ranking.tex").read_text(encoding="utf-8")


def test_without_a_clipboard_the_latex_is_selected(show, report):
    page = show(report)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.locator("#answer .texts > .latex button.copy").click()
    page.locator("#answer .texts > .latex details[open]").wait_for()
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
    for control in ("nav", "#estimators", "button.copy", ".latex details", ".tools", ".tabs > fieldset"):
        assert not page.locator(control).first.is_visible()


def test_everything_is_there_without_javascript(show, report):
    page = show(report, java_script_enabled=False)
    assert page.locator("figure svg[role=img]").count() == 14
    assert page.locator("#convergence .view:visible").count() == 1
    page.locator("#convergence .tabs label").nth(3).click()
    assert page.locator("#convergence .view:visible figure svg[role=img]").get_attribute("aria-label").count("Gap")
    assert page.locator(f"{TABLE} tbody tr").count() == len(ESTIMATORS)
    assert page.locator("button:visible").count() == 0
    assert not page.locator("#estimators").is_visible()
    page.locator("#answer .texts > .latex summary").click()
    assert LATEX in page.locator("#answer .texts > .latex code").inner_text()


def test_focus_is_seen(page):
    page.locator("#answer .texts > .latex .copy").focus()
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
    assert labels["reparam"] in figure.locator("output").text_content()
    assert page.locator("img, script").count() == 1
