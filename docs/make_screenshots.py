"""Pictures of the demo's report, as they stand in docs/screenshots: light, dark, phone, print.

    make screenshots

Runs the demo, opens its report in the Chromium of this machine (AUDITOR_CHROMIUM names another),
and fails where the pictures together would be larger than a repository should carry.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser.chromium import Look, running_chromium

FOLDER = Path(__file__).parent / "screenshots"
MAX_BYTES = 1_500_000
LOOKS = {
    "light": Look(),
    "dark": Look(scheme="dark"),
    "phone": Look(width=390, height=844),
    "print": Look(width=794, height=1123, media="print"),
}


def run_demo(folder: Path) -> Path:
    """Run the demo below the folder; its report."""
    command = [sys.executable, "-m", "auditor_cli.main", "run", "demo", "--exit-zero", "--quiet"]
    subprocess.run([*command, "--out", "run"], cwd=folder, check=True)
    return folder / "run" / "report.html"


def main() -> int:
    """Write the pictures; 1 where they are too large together."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running_chromium() as chromium:
        report = run_demo(Path(folder))
        for name, look in LOOKS.items():
            with chromium.open(report, look) as opened:
                if look.media == "print":  # the margins of paper, which a window does not have
                    opened.page.evaluate("document.body.style.padding = '16mm 15mm'")
                opened.screenshot(FOLDER / f"{name}.png")
    size = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    print(f"{FOLDER}: {size:,} bytes")
    return int(size > MAX_BYTES)


if __name__ == "__main__":
    sys.exit(main())
