"""Docstrings on pages: equations, which are indented in the source, keep their lines."""

from __future__ import annotations

import re

DASHES = re.compile(r"-{3,}")
EQUATION = re.compile(r" {4,}\S")
# What Markdown would read as a tag or as a link: "x <b" and "E[f](z)".
# What reStructuredText would read as the beginning of emphasis or of a substitution: "(*R, B)", "|z|".
STAR, BAR = re.compile(r"(?<![\\\w*])\*(?=\w+(?![\w*]))"), re.compile(r"(?<![\\\w])\|(?=\w)")
TAG, LINK = re.compile(r"<(?=[A-Za-z/!?])"), re.compile(r"\]\(")


def to_markdown(documentation: str) -> str:
    r"""Return a docstring as Markdown: its equations and examples as blocks of code, its section titles in bold.

    >>> to_markdown("One draw.\n\n    z = mu + eps").splitlines()
    ['One draw.', '', '```text', 'z = mu + eps', '```']
    """
    lines = documentation.splitlines()
    written: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        end = at + 1
        if end < len(lines) and DASHES.fullmatch(lines[end]) and line.strip():
            written += [f"**{line}**", ""]
            end += 1
        elif line.startswith(">>>"):
            end = _end_of(lines, at)
            written += ["```pycon", *lines[at:end], "```"]
        elif EQUATION.match(line) and not _before(lines, at).strip():
            end = _end_of_equation(lines, at)
            block = lines[at:end]
            margin = min(len(each) - len(each.lstrip()) for each in block if each.strip())
            written += ["```text", *(each[margin:] for each in block), "```"]
        else:
            written.append(_escape(line))
        at = end
    return "\n".join(written).strip()


def keep_equations(lines: list[str]) -> list[str]:
    """Return a docstring's lines as reStructuredText that keeps the lines of its equations.

    Sections (Parameters, Returns, ...) are left as they are: what is indented there is a description.

    >>> keep_equations(["One draw.", "", "    z = mu + eps", ""])
    ['One draw.', '', '::', '', '    z = mu + eps', '']
    """
    sections = [at for at in range(1, len(lines)) if DASHES.fullmatch(lines[at]) and lines[at - 1].strip()]
    first = sections[0] - 1 if sections else len(lines)
    written: list[str] = []
    at = 0
    while at < first:
        end = at + 1
        if EQUATION.match(lines[at]) and not _before(lines, at).strip():
            end = min(_end_of_equation(lines, at), first)
            written += ["::", ""]
        written += lines[at:end]
        at = end
    return [*written, *lines[first:]]


def to_restructured_text(lines: list[str]) -> list[str]:
    r"""Return a docstring's lines with its equations kept, and stars and bars of formulas in the text as they are.

    >>> to_restructured_text(["Shape (*R, B), with *any* R, as ``(*R, B)``."])
    ['Shape (\\*R, B), with *any* R, as ``(*R, B)``.']
    """
    written, literal = [], False
    for line in keep_equations(lines):
        literal = (literal and (not line.strip() or line.startswith(" "))) or line == "::"
        code = literal or line.lstrip().startswith((">>>", "..."))
        written.append(line if code else _escape_formulas(line))
    return written


def _escape_formulas(line: str) -> str:
    parts = line.split("``")  # those at odd places are code
    return "``".join(part if at % 2 else BAR.sub(r"\\|", STAR.sub(r"\\*", part)) for at, part in enumerate(parts))


def _before(lines: list[str], at: int) -> str:
    return lines[at - 1] if at else ""


def _end_of(lines: list[str], start: int) -> int:
    """Return the place of the next blank line."""
    at = start
    while at < len(lines) and lines[at].strip():
        at += 1
    return at


def _end_of_equation(lines: list[str], start: int) -> int:
    """Return the place after an equation; blank lines within it belong to it."""
    at = end = start
    while at < len(lines) and (not lines[at].strip() or EQUATION.match(lines[at])):
        at += 1
        if lines[at - 1].strip():
            end = at
    return end


def _escape(line: str) -> str:
    return LINK.sub(r"]\\(", TAG.sub(r"\\<", line))
