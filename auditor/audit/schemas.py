"""The published JSON schemas of files, by the name the command line knows them under."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from auditor.audit.baseline import Baseline
from auditor.audit.plan import Plan
from auditor.audit.policy import Policy
from auditor.audit.waivers import Waiver
from auditor.fix import FixResult
from auditor.patterns.pattern_head import PatternHead
from auditor.trace.calibration import Calibration
from auditor.trace.content_policy import ContentPolicy

SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "baseline": Baseline.model_json_schema,
    "content-policy": ContentPolicy.model_json_schema,
    "fix": FixResult.model_json_schema,
    "plan": Plan.model_json_schema,
    "patterns": PatternHead.model_json_schema,
    "policy": Policy.model_json_schema,
    "trace-calibration": Calibration.model_json_schema,
    "waivers": TypeAdapter(tuple[Waiver, ...]).json_schema,
}
