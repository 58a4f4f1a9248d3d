"""SVG files of matplotlib as elements of a page, in the colours of its style sheet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from markupsafe import Markup

from hybrid_sim.core.files import printable

PALETTE = {
    "ink": "#1d2327", "soft": "#59636b", "line": "#d9dee2",
    "s1": "#0072b2", "s2": "#d55e00", "s3": "#009e73", "s4": "#cc79a7",
    "s5": "#7a6a00", "s6": "#56b4e9", "s7": "#8c510a", "s8": "#5d3a9b",
    "q0": "#00224e", "q1": "#2a3f6d", "q2": "#575d6d", "q3": "#7d7c78",
    "q4": "#a59c74", "q5": "#d2c060", "q6": "#fee838",
}  # fmt: skip
"""Colours of text, grid, series (Okabe and Ito 2008, and darker ones) and of values from low to high (cividis).

In a page each is a variable of the style sheet, which has other values for dark screens.
"""

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_VARIABLES = {colour: f"var(--{name})" for name, colour in PALETTE.items()}
_DROPPED = {"clip-path", "id", "style", _LINK}
_NUMBER = re.compile(r"-?\d+\.\d+")
_USUAL = {"stroke-linejoin": "miter", "stroke-linecap": "butt", "font-size": "12px", "fill-opacity": "1"}


def svg_element(content: bytes, label: str, prefix: str, tips: Mapping[str, list[str]]) -> Markup:
    """A matplotlib SVG file as an element of a page; `label` is its text alternative, `tips` are by group id.

    Styles become attributes and colours variables of the style sheet; ids are those of markers alone; clip paths go, as
    nothing lies outside the axes; numbers have one decimal; marks that have a tip get it as their title.
    """
    root = ElementTree.fromstring(content)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in ("metadata", "clipPath", "style"):
                parent.remove(child)
    used = {element.get(_LINK, "")[1:] for element in root.iter()}
    for group in root.iter(f"{_SVG}g"):
        texts = tips.get(group.get("id", ""), [])
        marks = [mark for tag in ("use", "path") for mark in group.findall(f".//{_SVG}{tag}") if texts]
        marks = [mark for mark in marks if mark.get("id") not in used]
        for mark, text in zip(marks, texts, strict=False):
            ElementTree.SubElement(mark, "title").text = printable(text)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.text, element.tail = (element.text or "").strip("\n "), None
        _tidy(element, prefix, used)
    root.attrib = {"role": "img", "aria-label": printable(label), "viewBox": root.attrib["viewBox"]}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _tidy(element: ElementTree.Element, prefix: str, used: set[str]) -> None:
    old = element.attrib
    style = dict(part.split(": ", 1) for part in old.get("style", "").split("; ") if ": " in part)
    new = {name: value for name, value in old.items() if name not in _DROPPED}
    for name, value in style.items():
        name, value = ("font-size", value.split()[0]) if name == "font" else (name, value)
        if _USUAL.get(name) != value and name not in ("font-family", "white-space"):
            new[name] = _VARIABLES.get(value, value)
    for name in new.keys() & {"d", "x", "y", "transform"}:
        new[name] = _NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), new[name])
    if new.get("transform", "").startswith("rotate(-0 "):
        del new["transform"]
    if old.get("id") in used:
        new["id"] = f"{prefix}-{old['id']}"
    if _LINK in old:
        new["href"] = f"#{prefix}-{old[_LINK][1:]}"
    element.attrib = new
