"""A figure's SVG as a part of the page: its ids made unique, its estimators marked, no scripts in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from markupsafe import Markup

from estbench.report.figures.style import ESTIMATOR_PREFIX, INK

if TYPE_CHECKING:
    from estbench.report.figures.rendered import RenderedFigure

DRAWN = {"svg", "g", "defs", "path", "use", "clipPath", "rect", "image"}
PNG = "data:image/png;base64,"
LINK = "{http://www.w3.org/1999/xlink}href"


def inline_svg(figure: RenderedFigure) -> Markup:
    """Return the drawing as an ``svg`` element.

    Text is drawn as shapes, so the alternative text is the only string of a record in it.
    """
    root = ET.fromstring(figure.svg)  # noqa: S314  (drawn by us; comments are dropped)
    _keep_drawing(root)
    for element in root.iter():
        _name(element, figure.name)
    attributes = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": figure.alt}
    root.attrib.clear()
    root.attrib.update(attributes)
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704  (escaped by the serialiser)


def _keep_drawing(parent: ET.Element) -> None:
    parent.tag = parent.tag.rpartition("}")[2]
    for child in list(parent):
        if child.tag.rpartition("}")[2] in DRAWN:
            _keep_drawing(child)
        else:
            parent.remove(child)


def _name(element: ET.Element, prefix: str) -> None:
    """Put the figure's name before its ids and before all that refers to them."""
    name = element.attrib.pop("id", "")
    if name.startswith(ESTIMATOR_PREFIX):
        element.set("data-estimator", name.split("-")[1])
    elif name and element.tag != "g":  # nothing refers to a group
        element.set("id", f"{prefix}-{name}")
    link = element.attrib.pop(LINK, "")
    if link:
        element.set("href", link if link.startswith(PNG) else f"#{prefix}-{link.removeprefix('#')}")
    for key, value in element.attrib.items():
        if "url(#" in value:
            element.set(key, re.sub(r"url\(#", f"url(#{prefix}-", value))
    style = element.get("style")
    if style:
        element.set("style", style.replace("; ", ";").replace(": ", ":").replace(INK, "currentColor"))
