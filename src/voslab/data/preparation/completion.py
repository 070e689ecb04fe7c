"""Completes data sets: unpacks archives, finds misplaced folders and suggests the next step."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from voslab.core import DataError
from voslab.data.preparation.archives import compare, members, unpack
from voslab.data.preparation.catalogue import YEARS
from voslab.data.preparation.layout import Archive, CheckResult, DataSet
from voslab.data.preparation.listing import folders
from voslab.data.preparation.tree import check

_DEPTH, _VISITS, _BRANCHES = 6, 2000, 300
"""Limits of the search for misplaced folders: depth, visited folders, and subfolders of a folder that is searched."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Move:
    """A file or folder in the wrong place, and its expected path."""

    found: Path
    expected: Path

    @property
    def command(self) -> str:
        """The shell command that moves it."""
        found, expected, parent = (shlex.quote(str(p)) for p in (self.found, self.expected, self.expected.parent))
        if self.expected.is_dir():
            return f"mv {found}/* {expected}/"
        return f"{'' if self.expected.parent.is_dir() else f'mkdir -p {parent} && '}mv {found} {expected}"


def unpack_found(data_set: DataSet, data: Path, notify: Callable[[str], None], progress: Progress) -> int:
    """Unpack the official archives in `data`, `data/downloads` or the folder of the data set, if it is incomplete.

    Args:
        data_set: The data set.
        data: Folder of all data sets.
        notify: Called with a message per archive.
        progress: Called with the number of bytes done and the total.

    Returns:
        Number of files written.

    Raises:
        DataError: If an archive is damaged, unsafe, or of another release than the existing files.
        WriteError: If a file cannot be written.
    """
    written = 0
    for path, kind in _archives(data_set, data):
        if check(data_set).complete:
            notify(f"{path}: nothing to unpack, {data_set.title} is complete")
            continue
        if any(kind.destination(member.name) for member in members(path)):
            written += _unpack(path, kind, data_set, notify, progress, again=False)
    return written


def unpack_given(path: Path, sets: tuple[DataSet, ...], notify: Callable[[str], None], progress: Progress) -> int:
    """Unpack an archive that the user names. Existing files are read and compared.

    The file name identifies the archive if one of the data sets lists it, otherwise its content does.

    Args:
        path: The archive.
        sets: Data sets that it may belong to.
        notify: Called with a message per archive.
        progress: Called with the number of bytes done and the total.

    Returns:
        Number of files written.

    Raises:
        DataError: If the archive is damaged or unsafe, or has no file of any of the data sets.
        WriteError: If a file cannot be written.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such archive")
    kinds = [(kind, data_set) for data_set in sets for kind in data_set.archives]
    kinds.sort(key=lambda one: one[0].name.casefold() != path.name.casefold())
    names = [member.name for member in members(path)]
    for kind, data_set in kinds:
        if any(kind.destination(name) for name in names):
            return _unpack(path, kind, data_set, notify, progress, again=True)
    titles = ", ".join(dict.fromkeys(data_set.title for data_set in sets))
    raise DataError(f"{path}: has no file of {titles}; its first member is '{names[0] if names else ''}'")


def find_misplaced(data_set: DataSet, found: CheckResult, data: Path) -> tuple[Move, ...]:
    """Find missing files and folders elsewhere below `data`. As many as possible are taken from the same folder.

    Args:
        data_set: The data set.
        found: Result of its check.
        data: Folder of all data sets.
    """
    wanted = {path: Path(path).parts for path in found.missing if data_set.archives}
    last = {parts[-1] for parts in wanted.values()}
    bases: dict[Path, list[str]] = {}
    for path in _entries(data) if wanted else ():
        for name, parts in wanted.items() if path.name in last else ():
            known = len(parts) > 1 or re.search(r"[\d.]", name) or path.is_relative_to(data_set.root)
            if path.parts[-len(parts) :] == parts and path != data_set.root / name and known:
                bases.setdefault(path.parents[len(parts) - 1], []).append(name)
    moves: dict[Move, None] = {}
    rest = set(wanted)
    for base in sorted(bases, key=lambda base: -len(bases[base])):
        for name in sorted(rest & set(bases[base])):
            moves[_shortened(Move(base / name, data_set.root / name))] = None
        rest -= set(bases[base])
    return tuple(moves)


def next_step(data_set: DataSet, found: CheckResult, moves: tuple[Move, ...], data: Path) -> str:
    """Return the next step for an incomplete data set, as one line.

    Args:
        data_set: The data set.
        found: Result of its check.
        moves: Result of `find_misplaced`.
        data: Folder of all data sets.
    """
    if moves:
        return "; ".join(move.command for move in moves)
    for path in found.missing:
        kind = next((kind for kind in data_set.archives if f"{path}/".startswith(kind.provides)), None)
        if kind is not None:
            return f"download {kind.name} from {kind.url} into {data / 'downloads'}/ and run this again to unpack it"
        if not data_set.page:
            return f"put {path}/ into {data_set.root}/ as shown above, or pass its folder: paths.folder=DIR"
        return f"download {Path(path).name} from {data_set.page} and put it at {data_set.root / path}"
    if not data_set.archives:
        return f"repair the damaged files in {data_set.root}/"
    usual = data_set.archives[0]
    return (
        f"delete damaged files, if any, put {usual.name} ({usual.url}) into {data / 'downloads'}/ and run"
        " this again: it unpacks the missing files"
    )


def _archives(data_set: DataSet, data: Path) -> Iterator[tuple[Path, Archive]]:
    places = [data, data / "downloads", data_set.root, *folders(data_set.root)]
    for kind in data_set.archives:
        for place in dict.fromkeys(places):
            if (place / kind.name).is_file():
                yield place / kind.name, kind


def _unpack(
    path: Path, kind: Archive, data_set: DataSet, notify: Callable[[str], None], progress: Progress, again: bool
) -> int:
    """Unpack one archive. Existing files are compared only if `again` is true."""
    target = data_set.root
    if path.parent.name in YEARS and path.parent.parent == target:
        target = path.parent
    missing, differing = compare(path, target, kind.destination)
    if release := [place for place in differing if place.endswith("meta.json")]:
        raise DataError(
            f"{path}: belongs to another release than {target / release[0]}; put it into {target / YEARS[0]}/ or"
            f" {target / YEARS[1]}/, according to its release, and run this again"
        )
    if not missing and not again:
        notify(f"{path}: nothing to unpack, all its files are in {target}")
        return 0
    done = unpack(path, target, kind.destination, progress=progress)
    notify(f"{path}: {done.written:,} files unpacked into {target}, {done.skipped:,} existed already")
    if done.differing:
        notify(f"{path}: {len(done.differing):,} files in {target} differ and were not changed: {done.differing[0]}, …")
    return done.written


def _entries(data: Path) -> Iterator[Path]:
    """Yield the entries below a folder, breadth first, within the limits of the search."""
    level, visits = [data], 0
    for _ in range(_DEPTH):
        below: list[Path] = []
        for folder in level[: _VISITS - visits]:
            visits += 1
            children = _children(folder)
            yield from children
            branches = [path for path in children if path.is_dir() and not path.name.startswith(".")]
            below += branches if len(branches) <= _BRANCHES else []
        level = below


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # not a folder, or not readable


def _shortened(move: Move) -> Move:
    """Return the same move for the outermost folder that can be moved as a whole."""
    while (
        move.found.name == move.expected.name
        and not move.expected.parent.exists()
        and not move.expected.is_relative_to(move.found.parent)
    ):
        move = replace(move, found=move.found.parent, expected=move.expected.parent)
    return move
