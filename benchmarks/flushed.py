"""Which files of a finished command a power failure could still take, by its noted writes.

See `write_points` for what is noted. The rules are those that POSIX gives: what a file holds
lasts once it was flushed after its last write, and its name once its folder was flushed after the
name was given. File systems often keep more (ext4 flushes a renamed file's folder with the next
fsync of any file), and none promises it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.killed_work import LOCKS

MOST_NAMED = 4


def unflushed(points: Iterable[Sequence[str]], folder: Path, prepared: set[str]) -> list[str]:
    """Lines that say which files of a folder are not held by a flush.

    Args:
        points: Events and paths below the folder, in order.
        folder: As the command left it.
        prepared: Files that were there before it began.
    """
    content, names = _replay(points, folder)
    there = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name not in LOCKS
    }
    made = there - {name for name in prepared if name not in content}
    unseen = sorted(made - content.keys())
    lost = sorted(name for name in made if content.get(name))
    nameless = sorted(name for name in made if _pending(name, names))
    return [
        f"{what} of {len(found)} of {len(made)} files: {_some(found)}"
        for what, found in (
            ("content", lost), ("content, not seen being written,", unseen), ("name", nameless)
        )
        if found
    ]  # fmt: skip


def _replay(
    points: Iterable[Sequence[str]], folder: Path
) -> tuple[dict[str, bool], dict[str, bool]]:
    """Whether the content of each file, and each name, waits for a flush."""
    content: dict[str, bool] = {}
    names: dict[str, bool] = {}
    for event, *paths in points:
        first = paths[0]
        if event == "os.fsync":
            if first in content:
                content[first] = False
            else:  # a folder
                names |= {name: False for name in names if str(Path(name).parent) == first}
                names |= {name: False for name in names if first in (".", str(folder))
                          and "/" not in name}  # fmt: skip
        elif event in ("open", "os.write", "os.ftruncate"):
            if event == "open" and first not in content:
                names[first] = True
            content[first] = True
        elif event == "os.mkdir":
            names[first] = True
        elif event == "os.rename":
            for known in (content, names):
                for name in [n for n in known if n == first or n.startswith(f"{first}/")]:
                    known[paths[1] + name[len(first) :]] = known.pop(name)
            names[paths[1]] = True
        else:
            for known in (content, names):
                known.pop(first, None)
    return content, names


def _pending(name: str, names: dict[str, bool]) -> bool:
    """Whether a name, or that of a folder above it, waits."""
    path = Path(name)
    return any(names.get(str(each), False) for each in (path, *path.parents))


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
