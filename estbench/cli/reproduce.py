"""``estbench reproduce``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import rich_click as click

from estbench.cli.options import json_option

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
    help="The folder that keeps the outcomes.",
)
@click.option("--list", "listing", is_flag=True, help="Name the cards and run none.")
@json_option
def command(cards: tuple[str, ...], tiers: tuple[str, ...], out: str, *, listing: bool, as_json: bool) -> int:
    """Put claims of the literature to the test: CARD is the name of a card, or a TOML file."""
    from estbench.cli.console import print_json, print_rows, print_table, say
    from estbench.errors import EstbenchError
    from estbench.reproduce import find_cards

    if cards and tiers:
        raise EstbenchError("name cards or a --tier, not both")
    if listing:
        found = find_cards(cards, tiers or TIERS)
        if as_json:
            print_json([card.model_dump(mode="json") for card in found])
        else:
            print_rows("cards", ["name", "tier", "claim"], [[card.name, card.tier, card.claim] for card in found])
        return 0
    chosen = find_cards(cards, tiers or TIERS[:1])
    if not chosen:
        raise EstbenchError(f"no card has tier {' or '.join(tiers)}; see `estbench reproduce --list`")

    from estbench.measure import describe_environment
    from estbench.measure.environment import choose_device
    from estbench.reproduce import put_to_the_test
    from estbench.reproduce.results import record, write_page
    from estbench.reproduce.tables import short_line, table

    environment = describe_environment(choose_device("cpu"))
    outcomes = []
    for card in chosen:
        outcome = put_to_the_test(card)
        record(outcome, Path(out), environment)
        outcomes.append(outcome)
        say(short_line(outcome), stderr=True)
    known = {card.name: card for card in (*find_cards((), TIERS), *chosen)}
    page = write_page(list(known.values()), Path(out), partial(say, stderr=True))
    if as_json:
        print_json([outcome.as_dict() for outcome in outcomes])
    else:
        print_table(table(chosen, [outcome.as_dict() for outcome in outcomes]))
        say(f"page: {page}")
    return 0 if all(outcome.as_expected for outcome in outcomes) else 1
