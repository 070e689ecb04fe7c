"""Archives made by strangers (zip, tar), unpacked so that nothing leaves the target, grows without bound or is half.

Every entry is looked at before the first byte is written: a name that leads out of the target, a link, a device, an
encrypted member or a bomb refuses the whole archive. Permissions are never taken over. Links that lie in the target
already are the user's own and are followed.
"""

from __future__ import annotations

import shutil
import stat
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from voslab.core.errors import DataError, WriteError
from voslab.core.files import atomic_path
from voslab.data.preparation.archive_entries import CHUNK, Entry, content, entries, shown

_HARMLESS = 16 << 20  # bytes that may come out of any archive, however small it is
_HEADER = 4096  # bytes of headers that a member of a tar may have

Select = Callable[[str], str | None]
"""A member's name -> where it goes below the target; None leaves it out."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold before it is taken for a bomb.

    Attributes:
        members: files and folders in it.
        total: bytes after unpacking.
        ratio: bytes after unpacking per byte of the archive, where they are more than 16 MiB.
    """

    members: int = 2_000_000
    total: int = 1 << 40
    ratio: float = 100.0


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its name, plain and relative with `/`, its size in bytes, its CRC-32 if known (zip)."""

    name: str
    size: int
    crc: int | None


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` did: files written, files that were there, and files there with other content, left alone."""

    written: int
    skipped: int
    differing: tuple[Path, ...]


def members(archive: Path, limits: Limits | None = None) -> tuple[Member, ...]:
    """The files of an archive, in its order, after a look at every entry.

    Raises:
        DataError: not an archive, damaged, or not safe to unpack: the message names archive and member.
    """
    limits = limits or Limits()
    found: dict[str, Member] = {}
    folders: set[str] = {""}
    total, most = 0, _most(archive, limits)
    for number, entry in enumerate(_entries(archive, limits), 1):
        name, total = _plain(archive, entry), total + entry.size
        if number > limits.members:
            raise DataError(f"{archive}: more than {limits.members} members; refused as a bomb")
        if total > most:
            raise DataError(f"{archive}: would unpack to more than {most / 1e9:.3g} GB; refused as a bomb")
        if entry.folder:
            folders.add(name)
        elif name in found:
            raise DataError(f"{archive}: two members are named '{name}'; refused")
        else:
            found[name] = Member(name, entry.size, entry.crc)
        while (name := name.rpartition("/")[0]) not in folders:
            folders.add(name)
    if both := folders & found.keys():
        raise DataError(f"{archive}: '{min(both)}' is a file and a folder; refused")
    return tuple(found.values())


def compare(
    archive: Path, target: Path, select: Select, limits: Limits | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Selected files that are not in `target`, and those that are there with another size, by their place in it.

    Raises:
        DataError: as `members`.
    """
    wanted = _selected(archive, select, limits).values()
    sizes = {place: (member.size, _size(target / place)) for member, place in wanted}
    missing = tuple(place for place, (_, found) in sizes.items() if found is None)
    return missing, tuple(place for place, (size, found) in sizes.items() if found not in {None, size})


def unpack(
    archive: Path,
    target: Path,
    select: Select,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Unpacked:
    """Write files of an archive below `target`, each whole or not at all; a run that was killed goes on where it was.

    Files that are there with the same size and CRC-32 (tar: the same size) are passed over; other files are never
    overwritten.

    Args:
        archive: zip, or tar with or without gzip, bzip2 or xz; told by its content.
        target: folder, made if needed.
        select: what is unpacked, and where it goes.
        limits: against bombs; also, what is to be written must fit on the disk.
        progress: told the bytes done and the bytes of all selected files.

    Raises:
        DataError: as `members`; a member that is damaged or cut short. What was written before stays.
        WriteError: a file cannot be written, or all of them would not fit on the disk.
    """
    limits = limits or Limits()
    wanted = _selected(archive, select, limits)
    total = sum(member.size for member, _ in wanted.values())
    _require_space(archive, target, [member for member, place in wanted.values() if _size(target / place) is None])
    written, skipped, done = 0, 0, 0
    differing: list[Path] = []
    for entry in _entries(archive, limits):
        name = _plain(archive, entry)
        if entry.folder or name not in wanted:
            continue
        member, place = wanted[name]
        path = target / place
        if _size(path) is None:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                file.writelines(content(archive, entry, member.size))
            written += 1
        elif _same(path, member):
            skipped += 1
        else:
            differing.append(path)
        done += member.size
        if progress is not None:
            progress(done, total)
    return Unpacked(written, skipped, tuple(differing))


def safe_name(name: str) -> str:
    """A member's name, plain and relative. Raises `ValueError` saying what is wrong with one that cannot be so."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    wrong = [
        (any(unicodedata.category(letter) in {"Cc", "Cf", "Cs"} for letter in name), "control characters or no text"),
        ("\\" in name or ":" in name, "a backslash or colon in the name"),
        (name.startswith("/"), "an absolute path"),
        (".." in parts, "a path that leads out of the target"),
        (not parts, "no name"),
        (any(part[-1] in " ." for part in parts), "a dot or space at the end of a name"),
        (len(name) > 2000 or any(len(part.encode(errors="replace")) > 200 for part in parts), "too long a name"),
    ]
    if reason := next((reason for bad, reason in wrong if bad), None):
        raise ValueError(reason)
    return "/".join(parts)


def _most(archive: Path, limits: Limits) -> int:
    try:
        return int(min(limits.total, max(_HARMLESS, limits.ratio * archive.stat().st_size)))
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror})") from error


def _entries(archive: Path, limits: Limits) -> Iterator[Entry]:
    return entries(archive, _most(archive, limits) + _HEADER * limits.members)


def _plain(archive: Path, entry: Entry) -> str:
    """The plain name of an entry that may be unpacked, "" for the archive's root. Raises `DataError` for any other."""
    if entry.folder and set(entry.name.split("/")) <= {"", "."}:
        return ""
    try:
        name, fault = safe_name(entry.name), entry.fault
    except ValueError as error:
        name, fault = "", str(error)
    if fault is not None:
        raise DataError(f"{archive}: member '{shown(entry.name)}': {fault}; refused")
    return name


def _selected(archive: Path, select: Select, limits: Limits | None) -> dict[str, tuple[Member, str]]:
    """Selected members by name, and where each goes."""
    places = ((member, select(member.name)) for member in members(archive, limits))
    return {member.name: (member, safe_name(place)) for member, place in places if place is not None}


def _require_space(archive: Path, target: Path, missing: list[Member]) -> None:
    there = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    needed, free = sum(member.size for member in missing), shutil.disk_usage(there).free
    if needed > free:
        raise WriteError(f"{target}: {archive.name} needs {needed / 1e9:.3g} GB, the disk has {free / 1e9:.3g} GB left")


def _size(path: Path) -> int | None:
    """Bytes of a file; None if nothing is there, -1 if something else is."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _same(path: Path, member: Member) -> bool:
    if _size(path) != member.size:
        return False
    crc = 0
    if member.crc is not None:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
    return member.crc in {None, crc}
