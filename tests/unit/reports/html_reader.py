"""Reads a rendered page with the standard parser and keeps what the tests ask about."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}
# SVG elements are closed by the page itself; these are the ones it writes without content.
_SVG_LEAVES = {"path", "circle", "use"}


@dataclass
class Element:
    """One element with its attributes and the text and elements directly inside it."""

    name: str
    attributes: dict[str, str]
    parent: Element | None
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def inside(self, name: str) -> bool:
        """Whether an element of this name encloses it."""
        here = self.parent
        while here is not None:
            if here.name == name:
                return True
            here = here.parent
        return False


class PageReader(HTMLParser):
    """Every element of a page in document order; unbalanced tags are an error."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.unbalanced: list[str] = []
        self.feed(page.decode("utf-8"))
        self.close()
        self.unbalanced.extend(f"<{element.name}> never closed" for element in self._open)

    def named(self, *names: str) -> list[Element]:
        """The elements with one of these names."""
        return [element for element in self.elements if element.name in names]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)
        if tag not in _SVG_LEAVES:
            self.unbalanced.append(f"<{tag}/> closes itself")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1].name == tag:
            self._open.pop()
        else:
            self.unbalanced.append(f"</{tag}> without its start at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parent = self._open[-1] if self._open else None
        element = Element(tag, {name: value or "" for name, value in attrs}, parent)
        if parent is not None:
            parent.children.append(element)
        self.elements.append(element)
