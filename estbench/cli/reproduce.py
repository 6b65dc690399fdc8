"""``estbench reproduce``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import rich_click as click

from estbench.cli.layout import Column
from estbench.cli.options import json_option

CARDS = (Column("name", keep=True), Column("tier"), Column("claim", keep=True))
TIERS = ("seconds", "minutes", "gpu", "cluster")


@click.command()
@click.argument("cards", nargs=-1, metavar="[CARD]...")
@click.option(
    "--tier",
    "tiers",
    type=click.Choice(TIERS),
    multiple=True,
    help="All cards that take about so long; seconds if nothing is named.",
)
@click.option(
    "--out",
    type=click.Path(),
    default="results/reproductions",
    show_default=True,
    help="The folder of the results.",
)
@click.option("--list", "listing", is_flag=True, help="Name the cards and run none.")
@json_option
def command(cards: tuple[str, ...], tiers: tuple[str, ...], out: str, *, listing: bool, as_json: bool) -> int:
    """Put claims of the literature to the test: CARD is the name of a card, or a TOML file.

    A card names its study, a Python file beside it. To run a card is to run that file, as --plugin runs one: run cards
    only of people whose code you would run. --list reads the cards and runs nothing.
    """
    from estbench.cli.console import print_json, print_rows, print_table, say
    from estbench.errors import EstbenchError
    from estbench.reproduce import find_cards

    if cards and tiers:
        raise EstbenchError("name cards or a --tier, not both")
    if listing:
        listed = find_cards(cards, tiers or TIERS)
        if as_json:
            print_json([card.model_dump(mode="json") for card in listed])
        else:
            print_rows("cards", CARDS, [[card.name, card.tier, card.claim] for card in listed])
        return 0
    chosen = find_cards(cards, tiers or TIERS[:1])
    if not chosen:
        raise EstbenchError(f"no card has tier {' or '.join(tiers)}; see `estbench reproduce --list`")

    from estbench.devices import choose_device
    from estbench.measure import describe_environment
    from estbench.reproduce import run_card
    from estbench.reproduce.results import write_page, write_result
    from estbench.reproduce.tables import checks_table, count_outcomes, short_line, sort_results

    environment = describe_environment(choose_device("cpu"))
    results = []
    for card in chosen:
        result = run_card(card)
        write_result(result, Path(out), environment)
        results.append(result)
        say(short_line(result), stderr=True)
    known = {card.name: card for card in (*find_cards((), TIERS), *chosen)}
    page = write_page(list(known.values()), Path(out), partial(say, stderr=True))
    if as_json:
        print_json([result.as_dict() for result in results])
    else:
        results = sort_results(results, chosen)
        print_table(checks_table(results))
        say(count_outcomes(results))
        say(f"page: {page}")
    return 0 if all(result.as_expected for result in results) else 1
