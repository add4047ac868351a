"""The SARIF log of a scan is valid, points at files, and no name of a file acts in it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonschema
import pytest

from auditor.models.scan.answer import FileScan, PathScan
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.rules import RULES
from auditor_reports.sarif.log import FINGERPRINT, MAX_RESULTS
from auditor_reports.sarif.scan_log import MAX_ARTIFACTS, ScanRun, render_scan
from tests.unit.reports.hostile_report import HOSTILE_TEXTS

SCHEMA = Path(__file__).parents[4] / "shared/data/schemas/sarif-schema-2.1.0.json"
MOMENT = datetime(2026, 11, 30, 12, tzinfo=UTC)
RUN = ScanRun("1.2.3", 6, MOMENT, MOMENT)
PICKLE = Problem("pickle-content", "a pickle", "byte 0", "save it as safetensors")
CODE = Problem("custom-code", "code", "", "read it", Decision.INCONCLUSIVE)


def scanned(*files: tuple[str, Problem | None], path: str = "models") -> PathScan:
    """A folder with these files, each with one problem or none."""
    return PathScan(
        Path(path),
        tuple(
            FileScan(name, 5, "ab" * 32, Content("pickle", (problem,) if problem else ()))
            for name, problem in files
        ),
        is_folder=True,
    )


SAMPLE = replace(
    scanned(("a.py", CODE), ("sub/b.pkl", PICKLE), ("c.safetensors", None)),
    problems=(Problem("unknown-file", "no part", "x.bin", "move it"),),
    kinds=MappingProxyType({".": "transformers"}),
)


def run_of(*scans: PathScan) -> dict[str, Any]:
    """The one run of the log."""
    (run,) = json.loads(render_scan(scans, RUN))["runs"]
    assert isinstance(run, dict)
    return run


def official_errors(content: bytes) -> list[str]:
    """What the official schema says against a log."""
    if not SCHEMA.is_file():
        pytest.skip(f"needs the official schema at {SCHEMA}")
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8")))
    return [error.message for error in validator.iter_errors(json.loads(content))]


def uris(run: dict[str, Any]) -> list[str]:
    """Where each result points."""
    places = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    return [place["artifactLocation"]["uri"] for place in places]


@pytest.mark.parametrize("scans", [(), (SAMPLE,), (SAMPLE, scanned())], ids=len)
def test_logs_are_valid(scans: tuple[PathScan, ...]) -> None:
    """The official schema has nothing against them."""
    assert official_errors(render_scan(scans, RUN)) == []


def test_official_schema_refuses_a_misspelt_field() -> None:
    """The validation above can fail."""
    log = json.loads(render_scan((SAMPLE,), RUN))
    log["runs"][0]["results"][0]["ruleIdd"] = "x"
    assert official_errors(json.dumps(log).encode())


def test_refused_problems_come_first_and_are_errors() -> None:
    """What is not decided is a warning."""
    found = [(r["ruleId"], r["level"], r["properties"]) for r in run_of(SAMPLE)["results"]]
    assert found == [
        ("unknown-file", "error", {"decision": "refused"}),
        ("pickle-content", "error", {"decision": "refused"}),
        ("custom-code", "warning", {"decision": "inconclusive"}),
    ]


def test_each_result_points_at_its_file_and_its_rule() -> None:
    """The place in the file is a logical location, because it has no lines."""
    run = run_of(SAMPLE)
    assert uris(run) == ["models/x.bin", "models/sub/b.pkl", "models/a.py"]
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])
    assert all(rule["fullDescription"]["text"] == RULES[rule["id"]] for rule in rules)
    logical = [r["locations"][0].get("logicalLocations") for r in run["results"]]
    assert logical[1] == [{"name": "byte 0", "fullyQualifiedName": "byte 0", "kind": "object"}]
    assert not logical[2]


def test_only_rules_that_refuse_have_a_severity() -> None:
    """In this run: the same rule may refuse one file and leave another open."""
    rules = {rule["id"]: rule for rule in run_of(SAMPLE)["tool"]["driver"]["rules"]}
    assert rules["pickle-content"]["properties"]["security-severity"] == "9.5"
    assert "security-severity" not in rules["custom-code"]["properties"]
    both = run_of(scanned(("a.py", CODE), ("b.py", replace(CODE, decision=Decision.REFUSED))))
    (rule,) = both["tool"]["driver"]["rules"]
    assert rule["properties"]["security-severity"] == "9.5"


def test_files_are_artifacts_with_their_digest() -> None:
    """One that was not hashed has none."""
    scan = scanned(("a", None), ("b", None))
    scan = replace(scan, files=(scan.files[0], replace(scan.files[1], sha256="")))
    found = run_of(scan)["artifacts"]
    assert [(a["location"]["uri"], a["length"]) for a in found] == [
        ("models/a", 5),
        ("models/b", 5),
    ]
    assert found[0]["hashes"] == {"sha-256": "ab" * 32}
    assert not found[1].get("hashes")


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("models", "models/sub/b.pkl"),
        ("./models", "models/sub/b.pkl"),
        (".", "sub/b.pkl"),
        ("/home/someone/models", "models/sub/b.pkl"),
        ("../models", "models/sub/b.pkl"),
    ],
)
def test_addresses_are_relative_and_keep_the_path_in_the_folder(path: str, uri: str) -> None:
    """No machine's folders, and no two files of one name on one address."""
    assert uris(run_of(scanned(("sub/b.pkl", PICKLE), path=path))) == [uri]


def test_fingerprints_tell_files_and_places_apart() -> None:
    """Also files of one name in two scanned folders; they survive other digests."""
    scans = [scanned((f"{name}.pkl", problem), path=path) for path in ("m", "n")
             for name in "ab" for problem in (PICKLE, replace(PICKLE, place="byte 9"))]  # fmt: skip
    marks = [r["partialFingerprints"][FINGERPRINT] for r in run_of(*scans)["results"]]
    assert len(set(marks)) == len(marks) == 8
    scan = scanned(("a.pkl", PICKLE))
    changed = replace(scan, files=(replace(scan.files[0], sha256="cd" * 32, size=9),))
    assert [r["partialFingerprints"] for r in run_of(scan)["results"]] == [
        r["partialFingerprints"] for r in run_of(changed)["results"]
    ]


NAMES = {
    **HOSTILE_TEXTS,
    "surrogate": b"\xff\xfe.pkl".decode("utf-8", "surrogateescape"),
    "up": "../../x",
    "dots": "..",
    "scheme": "https://a.example/x",
    "drive": "C:\\x",
    "space": "a b%20c",
    "bidi": "a\u202egpj.exe",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_hostile_names_stay_inert(name: str) -> None:
    """In addresses, places and messages: the log is valid, and no character acts."""
    problem = Problem("pickle-content", f"called {name}", f"member {name}", name)
    content = render_scan(
        (scanned((name, problem)), scanned((name, problem), path=f"m/{name}")), RUN
    )
    assert official_errors(content) == []
    run = json.loads(content)["runs"][0]
    for uri in uris(run):
        assert uri.isascii()
        assert not uri.startswith("/")
        assert ".." not in uri.split("/")
        assert not set(uri) & set(" <>\"'\\:")
    for text in (r["message"]["text"] for r in run["results"]):
        assert text.isprintable()
        assert len(text.splitlines()) == 1


def test_surplus_results_and_artifacts_are_left_out_and_counted() -> None:
    """Refused ones are kept; a cut log says how much is missing."""
    names = [f"{number}.py" for number in range(MAX_RESULTS + 500)]
    run = run_of(scanned(*((name, CODE) for name in names), ("z.pkl", PICKLE)))
    assert len(run["results"]) == MAX_RESULTS
    assert run["results"][0]["ruleId"] == "pickle-content"
    assert run["properties"]["resultsLeftOut"] == 501
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert "501" in note["message"]["text"]
    assert len(run["artifacts"]) == MAX_ARTIFACTS


def test_the_invocation_says_how_it_ended() -> None:
    """With the exit code that the command had, and its version."""
    run = run_of(SAMPLE)
    (invocation,) = run["invocations"]
    assert (invocation["exitCode"], invocation["executionSuccessful"]) == (6, True)
    assert run["tool"]["driver"]["version"] == "1.2.3"
