"""For every format a reader of its own: what a program that takes the file would do first."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from huggingface_hub import ModelCard
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from auditor.findings import AuditReport
from tests.unit.reports.html_reader import PageReader
from tests.unit.reports.oscal_validator import oscal_errors
from tests.unit.reports.sarif.test_sarif import official_errors

_CYCLONEDX = JsonStrictValidator(SchemaVersion.V1_6)
# What a text could turn into; `html_inline` and `html_block` are raw HTML.
ACTIVE_TOKENS = {"html_inline", "html_block", "image", "link_open", "fence", "code_block"}


def read_html(content: bytes) -> None:
    """The standard parser: balanced, one script of the page's own, no address of a text."""
    reader = PageReader(content)
    assert reader.unbalanced == []
    for element in reader.elements:
        assert not any(name.startswith("on") for name in element.attributes)
        for name in ("href", "src"):
            address = element.attributes.get(name, "#")
            assert address.startswith(("#", "data:image/png;base64,")), address
    assert not any("alert" in script.text for script in reader.named("script"))


def read_markdown(content: bytes) -> None:
    """A CommonMark parser with tables: no HTML, link, picture or code block came of a text."""
    tokens = MarkdownIt("commonmark").enable("table").parse(content.decode())
    kinds = {token.type for token in tokens}
    kinds |= {child.type for token in tokens for child in token.children or ()}
    assert not kinds & ACTIVE_TOKENS


def read_model_card(content: bytes) -> None:
    """The hub's reader takes the front matter, a CommonMark parser the rest."""
    card: Any = ModelCard(content.decode())
    assert set(card.data.to_dict()) <= {"tags", "model-index", "audit", "library_name"}
    assert not any(each.verified for each in card.data.eval_results or ())
    read_markdown(card.text.encode())


def read_json(content: bytes) -> None:
    """The published record."""
    AuditReport.model_validate(json.loads(content))


def read_junit(content: bytes) -> None:
    """An independent parser of the format."""
    assert list(JUnitXml.fromstring(content)) or content


def read_sarif(content: bytes) -> None:
    """The official schema."""
    assert official_errors(content) == []


def read_oscal(content: bytes) -> None:
    """The official schema."""
    assert oscal_errors(content) == []


def read_cyclonedx(content: bytes) -> None:
    """The library's strict validator."""
    assert _CYCLONEDX.validate_str(content.decode()) is None


def read_in_toto(content: bytes) -> None:
    """The reference package."""
    message = json_format.Parse(content, statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()


READERS: dict[str, Callable[[bytes], None]] = {
    "cyclonedx": read_cyclonedx,
    "html": read_html,
    "intoto": read_in_toto,
    "json": read_json,
    "junit": read_junit,
    "markdown": read_markdown,
    "modelcard": read_model_card,
    "oscal": read_oscal,
    "sarif": read_sarif,
}
