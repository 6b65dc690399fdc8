"""The Sphinx extension of estbench's site: it writes the generated pages, and mends links and docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata

from estbench_site.api import exists, public_addresses
from estbench_site.docstrings import to_restructured_text
from estbench_site.pages import write_pages
from estbench_site.repository import drop_empty_globs, link_to_repository, publish

UNREADABLE = re.compile(r"(?<== )<[a-z][^,)]*>")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Connect the parts to the steps of a build."""
    app.connect("builder-inited", _write)
    app.connect("source-read", _lead_links)
    app.connect("autodoc-process-docstring", _mend_docstring, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", _mend_signature)
    app.connect("missing-reference", _find_public_name)
    app.connect("sphinx-click-process-options", _mend_metavars)
    app.connect("build-finished", _publish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _write(app: Sphinx) -> None:
    write_pages(Path(app.srcdir))


def _lead_links(app: Sphinx, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md":
        source[0] = link_to_repository(drop_empty_globs(source[0], page.parent), page)


def _mend_docstring(app: Sphinx, kind: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_restructured_text(lines)
    if kind in {"attribute", "property", "data"}:
        lines[:0] = ["..", ""]  # without this comment, napoleon reads "The steps: ..." as a type and its description


def _mend_signature(
    app: Sphinx, kind: str, name: str, documented: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Write ... for a default that is no expression ("<factory>"), without which Sphinx cannot read the signature."""
    return UNREADABLE.sub("...", signature) if signature else signature, returned


def _mend_metavars(app: Sphinx, context: Any, lines: list[str]) -> None:
    """Give NAME[opts] back the bracket that sphinx-click takes from its end."""
    lines[:] = [line.replace("[opts>", "[opts]>") for line in lines]


def _find_public_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """Resolve the name of a definition (estbench.estimators.base.Estimator) to that of its documentation.

    A definition that has no page of its own is shown without a link. A name that does not exist stays unresolved.
    """
    target = str(node.get("reftarget"))
    if node.get("refdomain") != "py" or not target.startswith("estbench."):
        return None
    address = _addresses().get(target)
    if address is not None:
        return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", address, node, content)
    return content if exists(target) else None


def _publish(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html":
        publish(Path(app.outdir))


def _addresses() -> dict[str, str]:
    if not _cached:
        _cached.update(public_addresses())
    return _cached


_cached: dict[str, str] = {}
