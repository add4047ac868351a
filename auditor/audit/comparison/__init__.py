"""Two runs side by side: what changed, and what makes them incomparable."""

from __future__ import annotations

from auditor.audit.comparison.comparability import Caveat as Caveat
from auditor.audit.comparison.compare import compare_reports as compare_reports
from auditor.audit.comparison.finding_changes import FindingChange as FindingChange
from auditor.audit.comparison.finding_changes import FindingStatus as FindingStatus
from auditor.audit.comparison.metric_changes import Judgement as Judgement
from auditor.audit.comparison.metric_changes import MetricChange as MetricChange
from auditor.audit.comparison.records import KINDS as KINDS
from auditor.audit.comparison.records import Change as Change
from auditor.audit.comparison.records import Comparison as Comparison
from auditor.audit.comparison.records import ResultChange as ResultChange
from auditor.audit.comparison.records import RunSide as RunSide
from auditor.audit.comparison.records import SubjectChange as SubjectChange
from auditor.audit.comparison.records import VerdictChange as VerdictChange
from auditor.audit.comparison.records import kind_of as kind_of
