"""CycloneDX 1.6 ML-BOM: the models with their digests and cards, and what was found.

Models are `machine-learning-model` components; libraries of the environment in which the
audit ran are components outside of the product. The written specification is
`specs/ml-bom.md`.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from urllib.parse import quote

from auditor.findings import AuditReport, CheckResult, SubjectRecord
from auditor_reports.aliased_json import aliased_json
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.audit_places import (
    AUDIT_JSON,
    Selection,
    render_within,
    select_worst,
    sha256_of,
)
from auditor_reports.cyclonedx.card import LIMITS_SHOWN, make_model_card
from auditor_reports.cyclonedx.declarations import make_declarations, make_definitions
from auditor_reports.cyclonedx.models import (
    Bom,
    CdxComponent,
    CdxHash,
    CdxMetadata,
    CdxProperty,
    Composition,
    ExternalReference,
    Tools,
)
from auditor_reports.number_text import iso_moment
from auditor_reports.sanitise import one_line
from auditor_reports.sarif.log import relative_uri
from auditor_reports.standing import Standings, check_cards, gaps

MAX_RESULTS = 2_000
MAX_SUBJECTS = 200
LIBRARIES_SHOWN = 200


def render_cyclonedx(report: AuditReport) -> bytes:
    """The report as a CycloneDX BOM in JSON.

    At most `MAX_RESULTS` results, worst first, and `MAX_SUBJECTS` models, fewer where they
    would not fit into 10 MB; what is left out is counted in `metadata.properties`.
    """
    return render_within(partial(_render, report, run_fingerprint(report)), MAX_RESULTS)


def _render(report: AuditReport, fingerprint: str, most: int) -> bytes:
    standings = Standings(report)
    selection = select_worst(report, standings, most)
    codes = {result.code for _, result in selection.results}
    cards = tuple(card for card in check_cards(report) if card.code in codes)
    subjects = report.subjects[: min(MAX_SUBJECTS, most)]
    refs = {subject.name: _subject_ref(number)
            for number, subject in reversed(list(enumerate(subjects)))}  # fmt: skip
    left_out = Counter({"results": selection.left_out,
                        "subjects": len(report.subjects) - len(subjects),
                        "gaps": max(len(gaps(report)) - LIMITS_SHOWN, 0)})  # fmt: skip
    models = tuple(_models(report, subjects, selection, left_out))
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:auditor:run:{fingerprint}/bom").urn,
        metadata=_metadata(report, fingerprint, left_out),
        components=(*models, *_libraries(report)),
        external_references=tuple(_files(report, fingerprint)),
        # Parts inside a model are not listed, and a model's own dependencies are not known.
        compositions=(
            (
                Composition(
                    aggregate="incomplete",
                    assemblies=tuple(_subject_ref(number) for number in range(len(subjects))),
                ),
            )
            if refs
            else None
        ),
        declarations=(
            make_declarations(report, standings, selection.results, cards, refs)
            if selection.results
            else None
        ),
        definitions=make_definitions(report, cards) if cards else None,
    )
    return aliased_json(bom)


def _subject_ref(number: int) -> str:
    return f"model-{number}"


def _models(
    report: AuditReport,
    subjects: tuple[SubjectRecord, ...],
    selection: Selection,
    left_out: Counter[str],
) -> Iterator[CdxComponent]:
    by_subject: dict[str, list[CheckResult]] = defaultdict(list)
    for _, result in selection.results:
        by_subject[result.subject].append(result)
    for number, subject in enumerate(subjects):
        card, missing = make_model_card(report, subject, by_subject.pop(subject.name, []))
        left_out["metrics"] += missing
        content = sha256_of(subject.digest)
        yield CdxComponent(
            type="machine-learning-model",
            bom_ref=_subject_ref(number),
            name=one_line(subject.name, 200) or "unnamed",
            description=one_line(f"Model under audit, kind {subject.kind}", 200),
            hashes=(CdxHash(content=content),) if content else None,
            model_card=card,
            properties=tuple(_subject_properties(subject)),
        )


def _subject_properties(subject: SubjectRecord) -> Iterator[CdxProperty]:
    yield _property("kind", subject.kind)
    yield _property("path", relative_uri(subject.path))
    yield _property("size-in-bytes", str(subject.size))
    yield _property("digest", subject.digest)
    for name, value in sorted(subject.facts.items())[:50]:
        yield _property("fact", f"{name}: {value}")


def _libraries(report: AuditReport) -> Iterator[CdxComponent]:
    """What the numbers depend on; not part of the model, so outside of the product's scope."""
    libraries = sorted(report.environment.libraries.items())[:LIBRARIES_SHOWN]
    for number, (name, version) in enumerate(libraries):
        shown, found = one_line(name, 200) or "unnamed", one_line(version, 100)
        yield CdxComponent(
            type="library",
            bom_ref=f"library-{number}",
            name=shown,
            version=found,
            scope="excluded",
            purl=f"pkg:pypi/{quote(shown.lower(), safe='')}@{quote(found, safe='')}",
            properties=(_property("role", "environment of the audit"),),
        )


def _metadata(report: AuditReport, fingerprint: str, left_out: Counter[str]) -> CdxMetadata:
    environment, gate = report.environment, report.gate
    tool = CdxComponent(
        type="application", name="auditor", version=one_line(environment.auditor, 100)
    )
    facts = {
        "plan": report.plan,
        "plan-digest": report.plan_digest,
        "policy-digest": gate.policy_digest,
        "run-fingerprint": fingerprint,
        "gate-verdict": gate.verdict,
        "exit-code": str(gate.exit_code),
        "complete": "yes" if report.complete else "no",
        "seed": str(report.seed),
        "python": environment.python,
        "platform": environment.platform,
        "device": environment.device,
    }
    missing = [
        _property(f"{what}-left-out", f"{count}; {AUDIT_JSON} has all")
        for what, count in left_out.items()
        if count > 0
    ]
    return CdxMetadata(
        timestamp=iso_moment(report.timing.finished),
        tools=Tools(components=(tool,)),
        properties=(*(_property(name, value) for name, value in facts.items()), *missing),
    )


def _files(report: AuditReport, fingerprint: str) -> Iterator[ExternalReference]:
    whole, plan = sha256_of(fingerprint), sha256_of(report.plan_digest)
    yield ExternalReference(
        url=AUDIT_JSON,
        type="evidence",
        comment="The whole report that this BOM was made from.",
        hashes=(CdxHash(content=whole),) if whole else None,
    )
    yield ExternalReference(
        url=relative_uri(report.plan_file),
        type="configuration",
        comment="The plan of the audit.",
        hashes=(CdxHash(content=plan),) if plan else None,
    )


def _property(name: str, value: str) -> CdxProperty:
    return CdxProperty(name=f"auditor:{name}", value=one_line(value, 300))
