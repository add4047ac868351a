"""Opening what a trace needs: index, policy, embedder, stance scorer and refusal judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import ConfigurationError
from auditor.language.refusal import MarkerJudge
from auditor.language.sentence_embedding import SentenceEmbedder
from auditor.trace.content_policy import ContentPolicy, read_policy
from auditor.trace.drift import SafetyJudge
from auditor.trace.matches import TraceIndex
from auditor.trace.nli import open_nli
from auditor.trace.policy_conflict import PolicyConflict
from auditor.trace.safety_judges import (
    PolicySafetyJudge,
    RefusalSafetyJudge,
    open_classifier,
)
from auditor.trace.stance import ExemplarScorer, StanceScorer
from auditor.trace.traced_text import TraceOptions, Tracer


@dataclass(frozen=True)
class PolicyModels:
    """The models that hold texts against a policy.

    Attributes:
        nli: Cross-encoder that judges stance; without it heads are trained on the policy's
            exemplars.
        embedder: Folder of a sentence embedder, or with `online` a name on the hub; the default
            one lies in an installed package.
        online: Whether a name may be downloaded.
        device: Where they run.
    """

    nli: Path | None = None
    embedder: Path | str | None = None
    online: bool = False
    device: str = "cpu"


def open_tracer(
    index: Path,
    policy: Path | None = None,
    *,
    models: PolicyModels | None = None,
    options: TraceOptions | None = None,
) -> Tracer:
    """A tracer over an index, with the conflict of a policy if one is given.

    Args:
        index: Folder of the index.
        policy: File of clauses; nothing is held against a policy without it.
        models: What judges texts by the policy.
        options: What counts as evidence.

    Raises:
        FileMissing, RefusedInput, ConfigurationError: As reading each of them.
    """
    found = TraceIndex(index)
    conflict = None if policy is None else open_conflict(read_policy(policy), models)
    return Tracer(found, conflict, options or TraceOptions())


def open_conflict(policy: ContentPolicy, models: PolicyModels | None = None) -> PolicyConflict:
    """What holds texts against a policy; refusals are discounted by keywords."""
    models = models or PolicyModels()
    embedder = SentenceEmbedder.open(models.embedder, online=models.online, device=models.device)
    stance: StanceScorer
    if models.nli is not None:
        stance = open_nli(models.nli, models.device)
    else:
        stance = ExemplarScorer(embedder.embed, policy.clauses, f"weights {embedder.digest[:19]}")
    return PolicyConflict(policy, embedder.embed, stance, refusal_scores)


def refusal_scores(texts: Sequence[str]) -> list[float]:
    """How far each text refuses, by keywords."""
    return [each.score for each in MarkerJudge().judge(texts)]


def open_judge(
    name: str,
    *,
    policy: Path | None = None,
    threshold: float | None = None,
    models: PolicyModels | None = None,
    conflict: PolicyConflict | None = None,
) -> SafetyJudge:
    """A safety judge by name.

    Args:
        name: `refusal`, `policy`, or the folder of a classifier.
        policy: For `policy`: the file of clauses.
        threshold: For `policy`: conflict above which a sentence breaks it.
        models: What judges by the policy, and where a classifier runs.
        conflict: For `policy`: of this policy and scorer, if a tracer has opened it already.

    Raises:
        ConfigurationError: `policy` lacks one of them.
        FileMissing, RefusedModel: The classifier cannot be opened.
    """
    if name == "refusal":
        return RefusalSafetyJudge(MarkerJudge())
    if name != "policy":
        return open_classifier(Path(name), (models or PolicyModels()).device)
    if policy is None or threshold is None:
        raise ConfigurationError(
            "the judge 'policy' needs a content policy and a threshold; give --policy and "
            "--judge-threshold, or judge by refusal"
        )
    return PolicySafetyJudge(conflict or open_conflict(read_policy(policy), models), threshold)
