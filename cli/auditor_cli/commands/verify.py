"""`auditor verify`: properties of ONNX models, without a plan."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from auditor.errors import ConfigurationError
from auditor.files import write_atomically
from auditor.verdicts import Verdict
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import FILE, FOLDER, json_option, option, quiet_option
from auditor_cli.output import STYLES, Output
from auditor_reports.sanitise import one_line

if TYPE_CHECKING:
    from auditor.executor import Outcome
    from auditor.verify.instances import Instance, InstanceResult

CODES = {Verdict.HOLDS: ExitCode.PASSED, Verdict.VIOLATED: ExitCode.FAILED}
# An instance stops by itself at its limit; its process is killed this much later.
GRACE_S = 30.0


@click.command(name="verify")
@click.argument("model", type=FILE, required=False)
@click.argument("property_file", metavar="PROPERTY", type=FILE, required=False)
@option("--instances", type=FILE, help="A VNN-COMP instances.csv instead of one property.")
@option("--out", type=FOLDER, default=Path("auditor-verify"), show_default=True,
              help="With --instances: folder of the results; resumes.")  # fmt: skip
@option("--workers", type=click.IntRange(1), envvar="AUDITOR_WORKERS",
              help="With --instances: how many run at once (default: the processors).")  # fmt: skip
@option("--time", "time_s", type=click.FloatRange(min=0, min_open=True), default=300.0,
              show_default=True, envvar="AUDITOR_MAX_TIME",
              help="Wall-clock seconds of one property.")  # fmt: skip
@option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True,
              envvar="AUDITOR_SEED", help="Seed of the falsifier.")  # fmt: skip
@option("--semantics", type=click.Choice(["real", "float32"]), default="real", show_default=True,
              envvar="AUDITOR_SEMANTICS", help="Exact, or float32 as executed.")  # fmt: skip
@click.option("--certificate", type=click.Path(dir_okay=False, path_type=Path),
              help="Write a certificate of what holds; else it is no answer.")  # fmt: skip
@click.option("--certificates", is_flag=True,
              help="With --instances: certificates of what holds, in the folder.")  # fmt: skip
@click.option("--check", type=FILE, help="Check this certificate of MODEL and PROPERTY instead.")
@json_option
@quiet_option
def command(
    model: Path | None,
    property_file: Path | None,
    instances: Path | None,
    out: Path,
    workers: int | None,
    time_s: float,
    seed: int,
    semantics: str,
    certificate: Path | None,
    certificates: bool,
    check: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Verify PROPERTY (VNN-LIB or YAML) of MODEL (ONNX), or many with --instances.

    Exits 0 when it holds, 1 when it is violated, 3 when there is no answer; with
    --instances 1 when one is violated, else 3 when one is open; with --check 0 when
    the certificate is accepted and 1 when it is rejected.
    """
    output = Output(as_json, quiet)
    if instances is not None:
        if model is not None:
            raise ConfigurationError("give MODEL and PROPERTY, or --instances, not both")
        if certificate is not None or check is not None or semantics != "real":
            raise ConfigurationError(
                "--certificate, --check and --semantics are for one MODEL and PROPERTY"
            )
        from auditor.verify.instances import read_instances

        found = read_instances(
            instances,
            time_limit_s=time_s,
            certificates=out / "certificates" if certificates else None,
        )
        return _verify_many(found, instances, out, workers or os.cpu_count() or 1, output)
    if certificates:
        raise ConfigurationError("--certificates goes with --instances; use --certificate FILE")
    if model is None or property_file is None:
        raise ConfigurationError("MODEL and PROPERTY are needed, or --instances FILE")
    if check is not None:
        if certificate is not None:
            raise ConfigurationError("give --certificate to write one, or --check, not both")
        return _check_certificate(check, model, property_file, output)
    return _verify_one(model, property_file, time_s, seed, semantics, certificate, output)


def _check_certificate(certificate: Path, model: Path, prop: Path, output: Output) -> int:
    from auditor.verify.certificate.checker import check_certificate

    checked = check_certificate(certificate, model, prop)
    verdict = Verdict.HOLDS if checked.accepted else Verdict.VIOLATED
    output.styled("accepted" if checked.accepted else "rejected", STYLES[verdict])
    if not checked.accepted:
        output.warn(f"record {checked.records}: {checked.reason}")
    elif not output.quiet:
        output.data(
            f"{checked.nodes} parts of the input region, {checked.leaves} refuted as leaves"
        )
    output.record(asdict(checked))
    return ExitCode.PASSED if checked.accepted else ExitCode.FAILED


def _verify_one(
    model: Path,
    property_file: Path,
    time_s: float,
    seed: int,
    semantics: str,
    target: Path | None,
    output: Output,
) -> int:
    from auditor.models.first_load import open_tried
    from auditor.verify.onnx_subject import verify_file
    from auditor.verify.proof import Proof
    from auditor.verify.semantics import Semantics

    open_tried(model)
    proofs: list[Proof] | None = None if target is None else []
    arithmetic = Semantics(semantics)
    prop, outcome = verify_file(
        model, property_file, time_limit_s=time_s, seed=seed, semantics=arithmetic, proofs=proofs
    )
    written = None
    if target is not None and proofs is not None:
        from auditor.verify.certificate.certify import certify

        outcome, written = certify(outcome, model, property_file, prop, proofs, target, arithmetic)
    output.styled(str(outcome.verdict), STYLES[outcome.verdict])
    if outcome.verdict.is_open:
        output.warn(f"no answer: {outcome.reason}")
    if not output.quiet:
        output.data(f"property: {prop.text}")
        output.data(f"would be violated where: {prop.violation_text}")
        output.data(outcome.statistics.how_far)
        if written is not None:
            output.data(f"certificate: {target} ({written.bytes} bytes, {written.nodes} nodes)")
    witness = outcome.witness
    inputs = [float(value) + 0.0 for value in witness.inputs] if witness else None
    outputs = list(map(float, witness.outputs)) if witness else None
    if outcome.verdict is Verdict.VIOLATED:
        output.data(f"witness: {inputs}")
        output.data(f"outputs: {outputs}")
    output.record({
        "verdict": outcome.verdict.value,
        "reason": outcome.reason,
        "semantics": semantics,
        "property": prop.text,
        "violation": prop.violation_text,
        "witness": inputs,
        "outputs": outputs,
        "statistics": asdict(outcome.statistics),
        "certificate": str(target) if written is not None else None,
    })  # fmt: skip
    if outcome.verdict is Verdict.HOLDS and witness is not None:
        output.warn(f"no pass: {witness.disagreement}")
        return ExitCode.INCONCLUSIVE
    return CODES.get(outcome.verdict, ExitCode.INCONCLUSIVE)


def _verify_many(
    instances: Sequence[Instance], path: Path, out: Path, workers: int, output: Output
) -> int:
    """Verify what has no answer yet, keep each answer as it comes, write the tables."""
    from auditor.audit.ledger import Ledger
    from auditor.audit.run_directory import make_folder
    from auditor.verify.instances import InstanceResult

    wanted = {instance.key: instance for instance in instances}
    make_folder(out)
    with Ledger(out / "instances.jsonl") as ledger:
        known = [InstanceResult.model_validate(entry.body) for entry in ledger.entries]
        done = {result.key: result for result in known if result.key in wanted}
        missing = [instance for key, instance in wanted.items() if key not in done]
        output.log(f"{len(wanted)} instances, {len(done)} known from before")
        for result in _run_instances(missing, workers, output):
            ledger.append("result", result.model_dump(mode="json"))
            done[result.key] = result
    results = [done[key] for key in wanted]
    _write_vnncomp(results, path.resolve().parent.name, out)
    return _show_many(results, out, output)


def _run_instances(
    missing: Sequence[Instance], workers: int, output: Output
) -> Iterator[InstanceResult]:
    from auditor.executor import LocalExecutor, WorkUnit
    from auditor.verify.instances import InstanceResult, verify_instance

    waiting = {instance.key: instance for instance in missing}
    executor = LocalExecutor(workers)
    try:
        for key, instance in waiting.items():
            # Writing and checking a certificate come after the search.
            share = 1.0 if instance.certificates is None else 3.0
            limit = share * instance.time_limit_s + GRACE_S
            executor.submit(WorkUnit(key, verify_instance, instance, time_limit_s=limit))
        for number, outcome in enumerate(executor.as_completed(), start=1):
            result = outcome.value
            if not isinstance(result, InstanceResult):
                result = _without_answer(waiting[outcome.id], outcome)
            how = f"{result.verdict} ({result.seconds:.2f} s)"
            output.log(f"[{number}/{len(waiting)}] {result.name}: {how}")
            yield result
    finally:
        executor.close()


def _without_answer(instance: Instance, outcome: Outcome) -> InstanceResult:
    """What is kept of an instance whose worker was stopped or died."""
    from auditor.verify.instances import InstanceResult

    stopped = outcome.status in ("timeout", "memory")
    return InstanceResult(
        name=instance.name,
        key=instance.key,
        verdict=Verdict.UNKNOWN if stopped else Verdict.ERROR,
        reason=outcome.detail.strip().splitlines()[-1],
        known=instance.known,
        seconds=round(outcome.seconds, 4),
        subproblems=0,
    )


def _write_vnncomp(results: Sequence[InstanceResult], category: str, out: Path) -> None:
    from auditor.verify.instances import counterexample_name, counterexample_text, vnncomp_results

    write_atomically(out / "results.csv", vnncomp_results(results, category).encode())
    for result in results:
        if result.verdict is Verdict.VIOLATED:
            target = out / "counterexamples" / counterexample_name(result)
            write_atomically(target, counterexample_text(result).encode())


def _show_many(results: Sequence[InstanceResult], out: Path, output: Output) -> int:
    rows = [
        (
            f"[{STYLES[r.verdict]}]{r.verdict}[/]", r.known or "-", f"{r.seconds:.2f}",
            escape(one_line(r.name)), "contradiction" if r.contradicts else "",
        )
        for r in results
    ]  # fmt: skip
    output.table(("verdict", "known", "seconds", "instance", ""), rows)
    for result in results:
        output.record(result.model_dump(mode="json") | {"contradicts": result.contradicts})
    verdicts = [result.verdict for result in results]
    decided = sum(not verdict.is_open for verdict in verdicts)
    output.data(
        f"{decided} of {len(results)} decided, {verdicts.count(Verdict.VIOLATED)} violated, "
        f"{sum(r.contradicts for r in results)} contradictions, "
        f"{sum(r.seconds for r in results):.1f} s in all; results in {out}"
    )
    if Verdict.VIOLATED in verdicts:
        return ExitCode.FAILED
    return ExitCode.PASSED if decided == len(results) else ExitCode.INCONCLUSIVE
