"""Each hostile file gets the answer it has to get, and nothing but its own bytes is looked at."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from auditor.errors import FileChanged
from auditor.guarded.outcome import GuardStatus
from auditor.models.onnx_model import OnnxModel
from auditor.models.scan.decision import Decision
from auditor.models.scan.scanner import scan_path
from auditor.models.transformers_folder import read_folder
from auditor.models.trial import trial_load
from tests.models.hostile_files.case import HostileCase
from tests.models.hostile_files.races import RACES, Race
from tests.models.hostile_files.racing import run_race
from tests.models.hostile_files.table import CASES
from tests.models.hostile_files.templates import ORDINARY, changed_template
from tests.models.model_folders import write_folder
from tests.models.ordinary_files import write_ordinary
from tests.models.system_calls import Calls, read_log, strace_command
from tests.models.traced_reads import (
    LOADERS,
    MARK,
    Traced,
    TracedScans,
    is_below,
    is_code,
    strange_events,
    trace_scans,
)

MEMORY = 16 * 2**20
"""Bytes that a scan may need at its peak, whatever the file says of itself."""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="pipes, limits and traces are those of Linux"
)


@dataclass(frozen=True)
class Written:
    """A case on disk.

    Attributes:
        case: What it is.
        path: What is scanned.
        folder: Its own folder, with what lies outside the scanned path.
        marker: What its payload would create.
    """

    case: HostileCase
    path: Path
    folder: Path
    marker: Path

    @property
    def allowed(self) -> list[Path]:
        """What a scan may open."""
        return [self.path, *(self.path.parent / name for name in self.case.beside)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Written]:
    """Every case, each in a folder of its own."""
    root = tmp_path_factory.mktemp("hostile")
    found = {}
    for case in CASES:
        folder, marker = root / case.id, root / "markers" / case.id
        marker.parent.mkdir(exist_ok=True)
        found[case.id] = Written(case, case.build(folder, marker), folder, marker)
    return found


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound files of every kind: scanning them imports whatever a scan needs."""
    return write_ordinary(tmp_path_factory.mktemp("warm") / "files")


@pytest.fixture(scope="module")
def traced(written: Mapping[str, Written], warm: Path) -> TracedScans:
    """All cases scanned in one process that recorded what it did."""
    return trace_scans({key: each.path for key, each in written.items()}, warm)


@pytest.fixture(scope="module")
def calls(
    written: Mapping[str, Written], warm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Calls]:
    """The system calls of the same scans."""
    log = tmp_path_factory.mktemp("strace") / "log"
    command = strace_command(log)
    if command is None:
        pytest.skip("strace is not installed; the audit events are checked without it")
    trace_scans({key: each.path for key, each in written.items()}, warm, command)
    return read_log(log)


each_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


def test_the_cases_have_names_of_their_own() -> None:
    """And each stands for something."""
    assert len({case.id for case in CASES}) == len(CASES)
    assert all(case.stands_for for case in CASES)


@each_case
def test_the_answer_is_the_expected_one(case: HostileCase, traced: TracedScans) -> None:
    """The decision, one of the rules, and the place or the text that it has to show."""
    found = traced.scans[case.id]
    assert found.error == ""
    assert found.decision in case.decisions, found.problems
    if case.rules:
        fitting = [each for each in found.problems if each[1] in case.rules]
        assert fitting, found.problems
        assert any(case.shown in " ".join((name, *told)) for name, _, *told in fitting), fitting
    else:
        assert found.problems == ()


@each_case
def test_its_payload_did_not_run(
    case: HostileCase, traced: TracedScans, written: Mapping[str, Written]
) -> None:
    """The marker file is not there, and neither is anything else that was not."""
    each = written[case.id]
    assert case.id in traced.scans
    assert not each.marker.exists()
    assert {path.name for path in each.folder.iterdir()} <= {"given", "outside", "source"}


@each_case
def test_only_its_own_bytes_are_read(
    case: HostileCase, traced: TracedScans, written: Mapping[str, Written]
) -> None:
    """No other path is opened, nothing is written, no process or connection is started."""
    assert strange_events(traced.scans[case.id], written[case.id].allowed) == []


@each_case
def test_the_system_saw_no_other_call(
    case: HostileCase, calls: Mapping[str, Calls], written: Mapping[str, Written]
) -> None:
    """The same from outside the process: links are resolved by the system itself."""
    found, allowed = calls[case.id], [path.resolve() for path in written[case.id].allowed]
    assert found.others == ()
    # A link that was not followed is judged by where it lies.
    tried = [Path(path).parent.resolve() / Path(path).name for path in found.failed]
    assert [
        path
        for path in tried
        if not any(
            path.is_relative_to(root) for root in (*allowed, *(root.parent for root in allowed))
        )
    ] == []
    assert [
        path for path in found.opened
        if not is_below(Path(path), allowed) and not is_code(Path(path))
        and not path.startswith("/sys/devices/system/cpu")
    ] == []  # fmt: skip


@each_case
def test_each_problem_is_one_printable_line(case: HostileCase, traced: TracedScans) -> None:
    """Names from the file can neither move the cursor nor begin a line of their own."""
    for _, rule, *told, decision in traced.scans[case.id].problems:
        assert rule
        assert all(text.isprintable() for text in told)
        assert decision in (Decision.REFUSED, Decision.INCONCLUSIVE)


@each_case
def test_memory_does_not_follow_what_a_file_claims(case: HostileCase, traced: TracedScans) -> None:
    """Each scan stays within the bound; the process had a limit of 4 GiB besides."""
    assert traced.scans[case.id].growth < MEMORY


def test_the_memory_of_a_scan_is_seen(warm: Path, tmp_path: Path) -> None:
    """The control: a text that is looked at as a whole shows in the figure."""
    size = 32 * 2**20
    (tmp_path / "chat_template.jinja").write_bytes(b"a" * size)
    assert trace_scans({"control": tmp_path}, warm).scans["control"].growth > size


def test_no_library_that_opens_models_was_needed(traced: TracedScans) -> None:
    """Not even imported, and what else was imported printed nothing."""
    assert traced.modules & LOADERS == frozenset()
    assert traced.printed == ""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A link to a sound file of another folder, which a scan of the link follows."""
    folder = tmp_path_factory.mktemp("control")
    (folder / "other").mkdir()
    (folder / "other" / "a.txt").write_text("text\n")
    (folder / "given").mkdir()
    (folder / "given" / "link.txt").symlink_to(folder / "other" / "a.txt")
    return folder / "given" / "link.txt"


def test_the_record_shows_what_lies_elsewhere(elsewhere: Path, warm: Path) -> None:
    """The control of the test on events: it fails where something else is opened."""
    found = trace_scans({"control": elsewhere}, warm).scans["control"]
    assert found.decision == Decision.ACCEPTED
    assert strange_events(found, [elsewhere.parent])
    assert strange_events(found, [elsewhere.parent, elsewhere.resolve()]) == []


@pytest.mark.parametrize("event", [
    ("open", ("/etc/hostname", "r", "0")), ("open", ("x", "w", str(os.O_WRONLY | os.O_CREAT))),
    ("os.remove", ("x", "-1")), ("subprocess.Popen", ("/bin/true", "[]")), ("os.fork", ()),
    ("socket.connect", ("<socket>", "('127.0.0.1', 9)")), ("import", ("torch.serialization", "")),
    ("os.listdir", ("/etc",)), ("pickle.find_class", ("os", "system")),
])  # fmt: skip
def test_the_record_shows_other_events(event: tuple[str, tuple[str, ...]], tmp_path: Path) -> None:
    """Each of these is none that a scan may cause."""
    assert strange_events(Traced("", (), {}, (event,), 0), [tmp_path])


def test_the_system_calls_show_what_lies_elsewhere(
    elsewhere: Path, warm: Path, tmp_path: Path
) -> None:
    """The control of the test on system calls."""
    command = strace_command(tmp_path / "log")
    if command is None:
        pytest.skip("strace is not installed")
    trace_scans({"control": elsewhere}, warm, command)
    found = read_log(tmp_path / "log")["control"]
    assert str(elsewhere.resolve()) in found.opened
    assert found.others == ()


def test_system_calls_that_start_or_connect_are_kept(tmp_path: Path) -> None:
    """Those of other threads between the marks too, and cut in two."""
    (tmp_path / "log").write_text(
        f'1 newfstatat(AT_FDCWD</>, "{MARK}/begin/a", 0x1, 0) = -1 ENOENT (No such file)\n'
        '2 openat(3</x>, "w.bin", O_RDONLY <unfinished ...>\n'
        "3 socket(AF_INET, SOCK_STREAM, 0) = 4\n"
        "2 <... openat resumed>) = -1 ENOENT (No such file or directory)\n"
        '3 execve("/bin/true", ["true"], 0x1) = 0\n'
        "3 clone(child_stack=NULL, flags=SIGCHLD) = 9\n"
        "3 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 10\n"
        f'1 newfstatat(AT_FDCWD</>, "{MARK}/end/a", 0x1, 0) = -1 ENOENT (No such file)\n'
    )
    found = read_log(tmp_path / "log")["a"]
    assert (found.opened, found.failed) == ((), ("/x/w.bin",))
    assert [line.split("(")[0] for line in found.others] == ["3 socket", "3 execve", "3 clone"]


@pytest.mark.parametrize("race", RACES, ids=[race.id for race in RACES])
def test_a_file_that_is_exchanged_is_noticed(race: Race, tmp_path: Path) -> None:
    """Whoever swaps a file while it is opened gets no answer about other bytes."""
    found = run_race(race, tmp_path / race.id, tmp_path / "marker")
    assert found["ran"], "the file was never opened as often"
    assert race.expected & set(found["words"]), found
    # Where it is accepted, it is the file that was listed and not the one that was put there.
    assert (Decision.ACCEPTED in found["words"]) <= (Decision.ACCEPTED in race.expected)
    # A pickle that was judged may be told.
    if "pickle-content" not in found["words"]:
        assert hashlib.sha256(race.unseen).hexdigest() not in found["digests"]
    assert not list(tmp_path.rglob("marker"))


def test_a_changed_template_changes_the_digest(tmp_path: Path) -> None:
    """Of the file, and of the model that it belongs to."""
    texts = (ORDINARY, ORDINARY.replace("content", "role"))
    scans = [scan_path(changed_template(tmp_path / str(n), text)) for n, text in enumerate(texts)]
    assert [scan.decision for scan in scans] == [Decision.ACCEPTED] * 2
    first, second = ({file.name: file.sha256 for file in scan.files} for scan in scans)
    assert first["tokenizer_config.json"] == second["tokenizer_config.json"]
    assert first["chat_template.jinja"] != second["chat_template.jinja"]
    model = write_folder(tmp_path / "model")
    (model / "chat_template.jinja").write_text(texts[0])
    digest = read_folder(model).digest
    (model / "chat_template.jinja").write_text(texts[1])
    with pytest.raises(FileChanged):
        read_folder(model, expected_digest=digest)


@pytest.mark.parametrize("name", ["onnx-crashes-shape-inference", "onnx-crashes-the-optimiser"])
def test_the_first_load_survives_what_crashed_libraries(
    name: str, written: Mapping[str, Written]
) -> None:
    """It is rejected, or the child process crashes and that is the result."""
    outcome = trial_load(OnnxModel.open(written[name].path))
    assert outcome.status in (GuardStatus.REJECTED, GuardStatus.CRASHED)
    assert outcome.problem
