"""How a data set gets complete: its archives unpacked, misplaced folders recognised, the next step named."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from voslab.core import DataError
from voslab.data.preparation.archives import compare, members, unpack
from voslab.data.preparation.catalogue import YEARS
from voslab.data.preparation.layout import Archive, DataSet, Found
from voslab.data.preparation.listing import folders
from voslab.data.preparation.tree import check

_DEPTH, _VISITS, _BRANCHES = 6, 2000, 300
"""Of the search for misplaced folders: levels, folders looked into, folders in one that is still gone through."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Move:
    """Something that lies in the wrong place, and where it belongs."""

    found: Path
    expected: Path

    @property
    def command(self) -> str:
        """What does it in a shell."""
        found, expected, parent = (shlex.quote(str(p)) for p in (self.found, self.expected, self.expected.parent))
        if self.expected.is_dir():
            return f"mv {found}/* {expected}/"
        return f"{'' if self.expected.parent.is_dir() else f'mkdir -p {parent} && '}mv {found} {expected}"


def unpack_found(data_set: DataSet, data: Path, say: Callable[[str], None], progress: Progress) -> int:
    """Unpack the official archives that lie in `data`, its `downloads/`, or the data set's own folder, where needed.

    Returns:
        how many files were written.

    Raises:
        DataError: an archive is damaged, unsafe, or of another release than what is there.
        WriteError: a file cannot be written.
    """
    written = 0
    for path, kind in _archives(data_set, data):
        if check(data_set).complete:
            say(f"{path}: nothing to unpack, {data_set.title} is complete")
            continue
        if any(kind.place(member.name) for member in members(path)):
            written += _unpack(path, kind, data_set, say, progress, again=False)
    return written


def unpack_given(path: Path, sets: tuple[DataSet, ...], say: Callable[[str], None], progress: Progress) -> int:
    """Unpack an archive that the user names: what is there already is read and compared.

    Its name decides what it is, if one of the data sets knows it, else its content.

    Raises:
        DataError: also if it holds nothing of any of the data sets.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such archive")
    kinds = [(kind, data_set) for data_set in sets for kind in data_set.archives]
    kinds.sort(key=lambda one: one[0].name.casefold() != path.name.casefold())
    names = [member.name for member in members(path)]
    for kind, data_set in kinds:
        if any(kind.place(name) for name in names):
            return _unpack(path, kind, data_set, say, progress, again=True)
    titles = ", ".join(dict.fromkeys(data_set.title for data_set in sets))
    raise DataError(f"{path}: holds nothing of {titles}; its first member is '{names[0] if names else ''}'")


def misplaced(data_set: DataSet, found: Found, data: Path) -> tuple[Move, ...]:
    """What is missing and lies somewhere else below `data`; what belongs together is taken from one place."""
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


def next_step(data_set: DataSet, found: Found, moves: tuple[Move, ...], data: Path) -> str:
    """What a user does next about a data set that is not complete."""
    if moves:
        return "; ".join(move.command for move in moves)
    for path in found.missing:
        kind = next((kind for kind in data_set.archives if f"{path}/".startswith(kind.gives)), None)
        if kind is not None:
            return f"download {kind.name} from {kind.url} into {data / 'downloads'}/ and run this again: it unpacks it"
        if not data_set.page:
            return f"put {path}/ into {data_set.root}/ as above, or say where it all is: paths.folder=DIR"
        return f"download {Path(path).name} from {data_set.page} and put it at {data_set.root / path}"
    if not data_set.archives:
        return f"put right what is damaged in {data_set.root}/"
    usual = data_set.archives[0]
    return (
        f"delete what is damaged, if anything is, put {usual.name} ({usual.url}) into {data / 'downloads'}/ and run"
        " this again: it unpacks what is not there"
    )


def _archives(data_set: DataSet, data: Path) -> Iterator[tuple[Path, Archive]]:
    places = [data, data / "downloads", data_set.root, *folders(data_set.root)]
    for kind in data_set.archives:
        for place in dict.fromkeys(places):
            if (place / kind.name).is_file():
                yield place / kind.name, kind


def _unpack(
    path: Path, kind: Archive, data_set: DataSet, say: Callable[[str], None], progress: Progress, again: bool
) -> int:
    """Unpack one archive; what is there already is looked at only if `again`."""
    target = data_set.root
    if path.parent.name in YEARS and path.parent.parent == target:
        target = path.parent
    missing, differing = compare(path, target, kind.place)
    if release := [place for place in differing if place.endswith("meta.json")]:
        raise DataError(
            f"{path}: of another release than {target / release[0]}; put it into {target / YEARS[0]}/ or"
            f" {target / YEARS[1]}/, whichever it is of, and run this again"
        )
    if not missing and not again:
        say(f"{path}: nothing to unpack, all of it is in {target}")
        return 0
    done = unpack(path, target, kind.place, progress=progress)
    say(f"{path}: {done.written:,} files unpacked into {target}, {done.skipped:,} were there")
    if done.differing:
        say(f"{path}: {len(done.differing):,} files in {target} differ and were left alone: {done.differing[0]}, …")
    return done.written


def _entries(data: Path) -> Iterator[Path]:
    """What lies below a folder, the nearest first, as far as it is worth looking."""
    level, visits = [data], 0
    for _ in range(_DEPTH):
        below: list[Path] = []
        for folder in level[: _VISITS - visits]:
            visits += 1
            inside = _inside(folder)
            yield from inside
            branches = [path for path in inside if path.is_dir() and not path.name.startswith(".")]
            below += branches if len(branches) <= _BRANCHES else []
        level = below


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []  # no folder, or one that may not be read


def _shortened(move: Move) -> Move:
    """The same move of the outermost folders that can be moved as a whole."""
    while (
        move.found.name == move.expected.name
        and not move.expected.parent.exists()
        and not move.expected.is_relative_to(move.found.parent)
    ):
        move = replace(move, found=move.found.parent, expected=move.expected.parent)
    return move
