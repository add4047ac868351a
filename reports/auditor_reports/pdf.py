"""The report as PDF: the HTML page laid out for paper by WeasyPrint, tagged after PDF/UA-1.

Nothing is fetched. The same report gives the same bytes on one machine: dates are those of the
report, the file's identifier from the run; fonts are those of the machine.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Final

from auditor.errors import ConfigurationError, MissingExtra, OperationFailed
from auditor.findings import AuditReport
from auditor_reports.html import render_html
from auditor_reports.html_environment import asset
from auditor_reports.traced_text import Samples

if TYPE_CHECKING:
    from types import ModuleType

MAX_PAGE_BYTES: Final = 600_000
"""Of the page that is laid out, which takes about half a minute for so much."""
OLDEST_PANGO: Final = (1, 44, 0)
_PICTURE: Final = "data:image/png;base64,"
_MARK = re.compile(r'<svg class="mark"[^>]*><use href="#mark-(\w+)"/></svg>')
_SYMBOL = re.compile(r'<symbol id="mark-(\w+)"[^>]*>(.*?)</symbol>')
_DRAWING = re.compile(r'(<svg class="(?:curve|interval|swatch)"[^>]*>)')
_SWATCH = re.compile(r'(<svg class="swatch"[^>]*>)')
_RULES = re.compile(r"/\* Drawings:.*?\*/(.*?)/\* End of drawings \*/", re.DOTALL)
_FIRST_PALETTE = re.compile(r":root \{(.*?)\}", re.DOTALL)


def render_pdf(report: AuditReport, samples: Samples | None = None) -> bytes:
    """The report as a tagged PDF; with samples, traced completions are shown in full.

    Raises:
        MissingExtra: WeasyPrint is not installed.
        ConfigurationError: The system's text layout library, Pango, is missing or too old.
    """
    load_weasyprint()  # before the page is made
    page = render_html(report, samples, most_bytes=MAX_PAGE_BYTES).decode("utf-8")
    return write_document(lay_out_for_paper(page))


def write_document(page: str) -> bytes:
    """A page as a tagged PDF, named by the digest of the page.

    Raises:
        MissingExtra: WeasyPrint is not installed.
        ConfigurationError: Pango is missing or too old.
        OperationFailed: The page asks for an address.
    """
    weasyprint = load_weasyprint()
    identifier = hashlib.sha256(page.encode("utf-8")).digest()[:16]
    document = weasyprint.HTML(string=page, url_fetcher=_refusing(weasyprint))
    with _quiet():
        try:
            content: bytes = document.write_pdf(pdf_variant="pdf/ua-1", pdf_identifier=identifier)
        except weasyprint.urls.FatalURLFetchingError as error:
            raise OperationFailed(f"the page of this report {error}") from None
    return content


def load_weasyprint() -> ModuleType:
    """The library.

    Raises:
        MissingExtra: It is not installed.
        ConfigurationError: It does not find Pango, or an old one.
    """
    from PIL import ImageFile

    strict = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with redirect_stdout(StringIO()):  # it prints before it fails
            import weasyprint
    except ImportError:
        raise MissingExtra("pdf", "WeasyPrint", "a report as PDF") from None
    except OSError as error:
        raise _without_pango(str(error).splitlines()[0]) from None
    finally:
        # It lets every reader of this process take pictures that end in the middle.
        ImageFile.LOAD_TRUNCATED_IMAGES = strict
    version = pango_version()
    if version < OLDEST_PANGO:
        raise _without_pango(f"this is Pango {'.'.join(map(str, version))}")
    module: ModuleType = weasyprint
    return module


def pango_version() -> tuple[int, int, int]:
    """The version of the system's Pango, as WeasyPrint finds it."""
    from weasyprint.text.ffi import pango

    number = int(pango.pango_version())
    return number // 10_000, number // 100 % 100, number % 100


def _without_pango(reason: str) -> ConfigurationError:
    oldest = ".".join(map(str, OLDEST_PANGO[:2]))
    return ConfigurationError(
        f"a report as PDF needs Pango {oldest} or newer, a system library: {reason}; install it "
        "(Debian: libpango-1.0-0 and libpangoft2-1.0-0), or print the HTML report"
    )


def lay_out_for_paper(page: str) -> str:
    """The page with what WeasyPrint needs: rules for paper, and drawings that stand alone.

    It draws each drawing by itself, without the page's rules and without the shapes that other
    drawings define; and PDF/UA wants a name for each, where a browser is told to skip it.
    """
    light = _light_colours()
    rules = _fill_in(_found(_RULES, asset("style.css")), light)
    shapes = dict(_SYMBOL.findall(page))

    def draw_mark(match: re.Match[str]) -> str:
        name = match.group(1)
        own = rules.replace("currentColor", light[name])
        return (
            f'<svg class="mark" viewBox="0 0 16 16"><title>mark: {name}</title>'
            f"<style>{own}</style>{shapes[name]}</svg>"
        )

    page = page.replace("</style>", f"{asset('paper.css')}</style>", 1)
    page = _DRAWING.sub(lambda match: f"{match.group(1)}<style>{rules}</style>", page)
    page = _SWATCH.sub(r"\1<title>line in the chart</title>", page)
    return _MARK.sub(draw_mark, page)


def _light_colours() -> dict[str, str]:
    palette = _found(_FIRST_PALETTE, asset("style.css"))
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", palette))


def _fill_in(rules: str, colours: dict[str, str]) -> str:
    return re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match.group(1)], rules)


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    if match is None:
        raise ValueError(f"style.css has nothing that matches {pattern.pattern}")
    return match.group(1)


def _refusing(weasyprint: ModuleType) -> object:
    """What answers WeasyPrint's requests: the page's own pictures, and nothing else."""
    urls = weasyprint.urls

    class Refusing(urls.URLFetcher):  # type: ignore[name-defined,misc]
        def fetch(self, url: str, headers: object = None) -> object:
            if not url.startswith(_PICTURE):
                raise urls.FatalURLFetchingError(f"asks for {url[:200]!r}, which is refused")
            return super().fetch(url, headers)

    return Refusing(allowed_protocols=("data",))


@contextmanager
def _quiet() -> Iterator[None]:
    """WeasyPrint warns of each rule that only browsers know."""
    logger = logging.getLogger("weasyprint")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
