"""How long the HTML page of a huge report takes, and how much memory, in a process of its own.

    python benchmarks/report_limits.py [results [copies of each finding]]

The report is the invented one of the tests, repeated. Making it is not counted in the seconds, but
in the memory, as the report lies in memory while it is rendered. Linux and macOS.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

from auditor_reports.html import render_html
from tests.unit.reports.hostile_report import enlarged


def peak_memory_mb() -> float:
    """The largest resident size of this process so far, in MB of 1024 * 1024 bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1024 * 1024 if sys.platform == "darwin" else 1024)


def measure(results: int, copies: int) -> None:
    """Render once and print what it took."""
    report = enlarged(results, copies)
    findings = sum(len(result.answer.findings) for result in report.results)
    before, started, cpu = peak_memory_mb(), time.perf_counter(), time.process_time()
    page = render_html(report)
    print(
        f"{results:,} results, {findings:,} findings, {len(report.gate.rows):,} gate rows: "
        f"{len(page):,} bytes, {time.perf_counter() - started:.1f} s "
        f"({time.process_time() - cpu:.1f} s of one processor), "
        f"peak {peak_memory_mb():.0f} MB ({before:.0f} MB before rendering)"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        measure(int(sys.argv[2]), int(sys.argv[3]))
    else:
        counts = (sys.argv[1:] + ["10000", "25"][len(sys.argv) - 1 :])[:2]
        subprocess.run([sys.executable, __file__, "--child", *counts], check=True)
