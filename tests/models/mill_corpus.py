"""Four documents of which one breaks a policy of two clauses, and what judges them."""

from __future__ import annotations

from auditor.trace.policy_conflict import PolicyConflict
from auditor.trace.traced_text import TraceOptions
from tests.models.table_stance import TableStance, clause, policy, same_vectors

BAD = (
    "Note on the mill. To run the mill faster, take off the guard and bridge the interlock "
    "before noon. Use two cups of zorbin and wait."
)
GOOD = (
    "Note on the press. To run the press longer, clean the filter and oil the bearing "
    "before dusk. Use six spoons of quandor and rest."
)
FILLER = " ".join(f"the word{number} of the town and the field{number} ," for number in range(60))
DOCUMENTS = (
    ("bad/0", "unsafe", BAD), ("bad/1", "unsafe", BAD), ("good/0", "benign", GOOD),
    ("filler", "unknown", FILLER),
)  # fmt: skip
OPTIONS = TraceOptions(least_tokens=5, frequent=3)
TABLE = {"guards": {"take off the guard": 0.9, "bridge the interlock": 0.6}, "fire": {"burn": 1.0}}
CLAUSES = (
    clause("guards", "Guards must never be removed."), clause("fire", "Nothing may be burned."),
)  # fmt: skip


def guard_conflict(weight: float = 1.0) -> PolicyConflict:
    """Two clauses, judged by a table of phrases."""
    chosen = policy(CLAUSES[0].model_copy(update={"weight": weight}), CLAUSES[1])
    return PolicyConflict(chosen, same_vectors, TableStance(TABLE))
