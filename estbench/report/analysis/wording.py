"""Numbers as people read them in tables, figures and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from estbench.errors import EstbenchError
from estbench.stats import Interval
from estbench.variant import Variant

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
# Options of problems that have a symbol in papers, and what they are where they are not given.
SYMBOLS = {"importance_samples": ("K", 1)}


def fixed(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with a fixed count of decimals, so that a column lines up; zero has no minus."""
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else str(value).replace("-", MINUS)
    if abs(value) >= 1e6:
        return significant(value)
    text = f"{value:+z,.{digits}f}" if sign else f"{value:z,.{digits}f}"
    return text.replace("-", MINUS)


def significant(value: float) -> str:
    """Return a number with three significant digits, for values that span orders of magnitude."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else fixed(value)
    if 1e-3 <= abs(value) < 1e4:
        decimals = max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}".replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", MINUS)


def format_count(value: Any) -> str:
    """Return an integer with its thousands separated."""
    return NOTHING if pd.isna(value) else f"{int(value):,}"


def count_noun(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless it is one."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_difference(value: float) -> str:
    """Return a difference with its sign."""
    return fixed(value, sign=True)


def format_rate(value: float) -> str:
    """Return a rate without decimals."""
    return fixed(value, 0)


def format_ratio(ratio: float) -> str:
    """Return a ratio with the digits that a reader compares."""
    return fixed(ratio, 2 if ratio < 10 else 1 if ratio < 100 else 0)


def format_percent(share: float) -> str:
    """Return a share in percent; it is never rounded to all or nothing."""
    if math.isnan(share):
        return NOTHING
    inside = min(max(share, 0.0), 1.0)
    if 0 < inside < 0.001:
        return "under 0.1 %"
    if 0.999 < inside < 1:
        return "over 99.9 %"
    return f"{100 * inside:.3g} %"


def format_p(p: float) -> str:
    """Return a p-value, no more precise than it deserves."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def bytes_as_mib(value: float) -> str:
    """Return a number of bytes in MiB."""
    return fixed(value / 2**20, 0)


def interval_note(interval: Interval, low: str, high: str, unit: str = "") -> str:
    """Return the small print beside a value: its written ends, if there are any, and its n (of ``unit``)."""
    if interval.n and not math.isnan(interval.low):
        return f"[{low}, {high}], n = {interval.n} {unit}".rstrip()
    return count_noun(interval.n, unit.removesuffix("s") or "seed")


def format_list(parts: Sequence[str]) -> str:
    """Return at least one part as "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def short_problems(labels: Iterable[str]) -> dict[str, str]:
    """Return a short name for each problem: the options in which it differs from the others.

    Parameters
    ----------
    labels
        The labels of all problems of an experiment. A label that cannot be read keeps every label as it is.

    Examples
    --------
    >>> short_problems(["vae[dataset=mnist,importance_samples=5]", "vae[dataset=mnist,importance_samples=50]"])
    {'vae[dataset=mnist,importance_samples=5]': 'K = 5', 'vae[dataset=mnist,importance_samples=50]': 'K = 50'}
    """
    labels = list(dict.fromkeys(labels))
    variants = _parse_all(labels)
    if variants is None:
        return {label: label for label in labels}
    several = len({variant.name for variant in variants}) > 1
    names = {}
    for label, variant in zip(labels, variants, strict=True):
        parts = [_write_option(variant, key) for key in _find_differing(variants, variant.name)]
        names[label] = " ".join(([variant.name] if several or not parts else []) + [", ".join(parts)]).strip()
    return names if len(set(names.values())) == len(labels) else {label: label for label in labels}


def describe_common_problem(labels: Iterable[str]) -> str:
    """Return a sentence with all that problems of one name have in common; empty for one problem or several names.

    It belongs once above or below what uses the names of ``short_problems``.

    Examples
    --------
    >>> describe_common_problem(["vae[dataset=mnist,importance_samples=5]", "vae[dataset=mnist,importance_samples=50]"])
    'All problems are vae[dataset=mnist]; K is the option importance_samples.'
    """
    labels = list(dict.fromkeys(labels))
    variants = _parse_all(labels)
    if variants is None or len(labels) < 2 or len({variant.name for variant in variants}) > 1:
        return ""
    first, differing = variants[0], _find_differing(variants, variants[0].name)
    common = Variant(first.name, {key: value for key, value in first.options.items() if key not in differing})
    symbols = [f"{SYMBOLS[key][0]} is the option {key}" for key in differing if key in SYMBOLS]
    return "; ".join([f"All problems are {common}", *symbols]) + "."


def _parse_all(labels: Iterable[str]) -> list[Variant] | None:
    try:
        return [Variant.parse(label) for label in labels]
    except EstbenchError:  # a record may hold any label
        return None


def _find_differing(variants: Iterable[Variant], name: str) -> list[str]:
    """Return the options in which the variants of one name differ; an option that is left out has its default."""
    options = [variant.options for variant in variants if variant.name == name]
    keys = dict.fromkeys(key for each in options for key in each)
    return [key for key in keys if any(each.get(key) != options[0].get(key) for each in options)]


def _write_option(variant: Variant, key: str) -> str:
    symbol, default = SYMBOLS.get(key, (key, "default"))
    written = str(Variant(symbol, {symbol: variant.options.get(key, default)}))
    return written.removeprefix(f"{symbol}[").removesuffix("]").replace("=", " = ", 1)
