"""Reads a rendered page with the standard parser and keeps what the tests ask about."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

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

    def flaws(self) -> list[str]:
        """What no page may have: unbalanced tags, ids twice, lost links, gaps, bare tables."""
        found = list(self.unbalanced)
        ids = [e.attributes["id"] for e in self.elements if "id" in e.attributes]
        found += [f"id {name} twice" for name in set(ids) if ids.count(name) > 1]
        targets = {e.attributes["href"] for e in self.named("a", "use")}
        found += [f"{target} leads nowhere" for target in targets
                  if target.startswith("#") and target[1:] not in ids]  # fmt: skip
        levels = [int(heading.name[1]) for heading in self.named("h1", "h2", "h3", "h4")]
        if levels[0] != 1 or any(after > before + 1 for before, after in pairwise(levels)):
            found.append(f"headings {levels}")
        scopes = (head.attributes.get("scope") for head in self.named("th"))
        found += [f"a head with the scope {scope}" for scope in scopes
                  if scope not in ("row", "col")]  # fmt: skip
        starts = ([child.name for child in table.children][:2] for table in self.named("table"))
        return found + [f"a table begins with {s}" for s in starts if s != ["caption", "thead"]]

    @property
    def policy(self) -> str:
        """What the page lets a browser do."""
        (policy,) = [
            m.attributes["content"] for m in self.named("meta") if "http-equiv" in m.attributes
        ]
        return policy

    @property
    def own_style_only(self) -> str:
        """The policy that admits the style of this page, pictures in it, and nothing else."""
        (style,) = self.named("style")
        digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
        return (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
            "form-action 'none'"
        )

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
