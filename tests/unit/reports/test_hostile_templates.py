"""Texts in the language of our own templates: shown in every format, and never followed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from auditor_reports.comparison.markdown import render_comparison_markdown
from auditor_reports.comparison.page import render_comparison
from auditor_reports.dossier.build import build_dossier
from auditor_reports.dossier.formats import DOSSIER_WRITERS, DossierWriter
from auditor_reports.fix.json import render_fix_json
from auditor_reports.fix.markdown import render_fix_markdown
from auditor_reports.fix.page import render_fix
from auditor_reports.registry import EVERY_WRITER, Writer
from tests.unit.reports.comparison.test_comparison_page import hostile
from tests.unit.reports.dossier_runs import mapping, recognised
from tests.unit.reports.hostile_fix import poisoned_fix
from tests.unit.reports.hostile_report import poisoned

Render = Callable[[str], bytes]

TEXTS = {
    "expression": "{{ 7103 * 7103 }}",
    "statement": "{% if 1 %}{{ 7103 * 7103 }}{% endif %}",
    "inclusion": "{% include 'report.html' %}{% import 'os' as os %}7103",
    "raw": "{% raw %}{{ 7103 }}{% endraw %}",
    "comment": "{# 7103 #}",
    "way out": "{{ ''.__class__.__mro__[1].__subclasses__() }}7103",
    "percent": "%(7103)s {7103} {0.__class__} %n ${7103} $(7103) `7103`",
}


def _report(writer: Writer) -> Render:
    return lambda text: writer.render(poisoned(text))


def _dossier(writer: DossierWriter) -> Render:
    return lambda text: writer.render(build_dossier(recognised(text), mapping("eu-ai-act")))


# What a PDF says is packed; `test_pdf` reads it.
RENDERERS: dict[str, Render] = {
    **{each.name: _report(each) for each in EVERY_WRITER if each.name != "pdf"},
    **{f"dossier {each.name}": _dossier(each) for each in DOSSIER_WRITERS if each.name != "pdf"},
    "comparison page": lambda text: render_comparison(hostile(text)),
    "comparison markdown": lambda text: render_comparison_markdown(hostile(text)),
    "repair page": lambda text: render_fix(poisoned_fix(text)).encode(),
    "repair markdown": lambda text: render_fix_markdown(poisoned_fix(text)).encode(),
    "repair record": lambda text: render_fix_json(poisoned_fix(text)),
}


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_no_template(render: Render, text: str) -> None:
    """What it says is there, and what it would come to is not."""
    shown = render(text).decode()
    assert "7103" in shown
    assert str(7103 * 7103) not in shown
    assert "&lt;class" not in shown
    assert "<class " not in shown


def test_a_text_that_is_lost_would_be_noticed() -> None:
    """Nothing else on these pages says the number that is looked for."""
    assert not any("7103" in render("plain").decode() for render in RENDERERS.values())
