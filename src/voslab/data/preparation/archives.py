"""Unpacks archives from unknown sources (zip, tar) safely.

All entries are checked before the first byte is written. A path outside the target, a link, a device, an encrypted
member or an archive bomb refuses the whole archive. `tarfile.data_filter` is not enough: it accepts links and changes
absolute paths, and zip archives have no such filter. Permissions are not restored. Existing links inside the target are
followed.
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
from voslab.data.preparation.archive_entries import CHUNK, Entry, content, entries, printable

_ALWAYS_ALLOWED = 16 << 20  # bytes that any archive may unpack to
_HEADER = 4096  # bytes of headers allowed per member of a tar archive

Select = Callable[[str], str | None]
"""Returns where a member goes, relative to the target folder, or None to leave it out."""


@dataclass(frozen=True)
class Limits:
    """Limits above which an archive is refused as a bomb.

    Attributes:
        members: number of files and folders.
        total: unpacked bytes.
        ratio: unpacked bytes per byte of the archive; archives may always unpack to 16 MiB.
    """

    members: int = 2_000_000
    total: int = 1 << 40
    ratio: float = 100.0


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its relative path with `/`, its size in bytes, and its CRC-32 (zip only)."""

    name: str
    size: int
    crc: int | None


@dataclass(frozen=True)
class Unpacked:
    """Result of `unpack`: files written, files already present, and present files with other content (not changed)."""

    written: int
    skipped: int
    differing: tuple[Path, ...]


def members(archive: Path, limits: Limits | None = None) -> tuple[Member, ...]:
    """Check every entry of an archive and return its files in order.

    Args:
        archive: zip or tar archive.
        limits: limits against bombs; None for the defaults.

    Returns:
        The files.

    Raises:
        DataError: if the archive is damaged or not safe to unpack; the message names archive and member.
    """
    limits = limits or Limits()
    files: dict[str, Member] = {}
    folders: set[str] = {""}
    total, max_total = 0, _max_total(archive, limits)
    for number, (name, entry) in enumerate(_checked_entries(archive, limits), 1):
        total += entry.size
        if number > limits.members:
            raise DataError(f"{archive}: more than {limits.members} members; refused as a bomb")
        if total > max_total:
            raise DataError(f"{archive}: would unpack to more than {max_total / 1e9:.3g} GB; refused as a bomb")
        if entry.folder:
            folders.add(name)
        elif name in files:
            raise DataError(f"{archive}: two members are named '{name}'; refused")
        else:
            files[name] = Member(name, entry.size, entry.crc)
        while (name := name.rpartition("/")[0]) not in folders:
            folders.add(name)
    if both := folders & files.keys():
        raise DataError(f"{archive}: '{min(both)}' is a file and a folder; refused")
    return tuple(files.values())


def compare(
    archive: Path, target: Path, select: Select, limits: Limits | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compare the selected files of an archive with a folder.

    Args:
        archive: zip or tar archive.
        target: folder.
        select: selects members and their paths in `target`.
        limits: limits against bombs; None for the defaults.

    Returns:
        Paths of files that are missing, and paths of files that have another size, both relative to `target`.

    Raises:
        DataError: as `members`.
    """
    sizes = {path: (member.size, _size(target / path)) for member, path in _selected(archive, select, limits).values()}
    missing = tuple(path for path, (_, found) in sizes.items() if found is None)
    return missing, tuple(path for path, (size, found) in sizes.items() if found not in {None, size})


def unpack(
    archive: Path,
    target: Path,
    select: Select,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Unpacked:
    """Write selected files of an archive, each completely or not at all; a later call resumes an interrupted one.

    Present files of the same size and CRC-32 (tar: the same size) are skipped; other files are never overwritten.

    Args:
        archive: zip archive, or tar archive with or without gzip, bzip2 or xz; its content decides the format.
        target: folder, created if needed.
        select: selects members and their paths in `target`.
        limits: limits against bombs; None for the defaults.
        progress: called with the bytes processed and the bytes of all selected files.

    Returns:
        The numbers of files written and skipped, and the files that differ.

    Raises:
        DataError: as `members`, or if a member is damaged; files written before stay.
        WriteError: if a file cannot be written, or the disk has too little space for all of them.
    """
    limits = limits or Limits()
    selected = _selected(archive, select, limits)
    total = sum(member.size for member, _ in selected.values())
    _require_space(archive, target, sum(one.size for one, path in selected.values() if _size(target / path) is None))
    written, skipped, done = 0, 0, 0
    differing: list[Path] = []
    for name, entry in _checked_entries(archive, limits):
        if entry.folder or name not in selected:
            continue
        member, relative = selected[name]
        path = target / relative
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
    """Normalise the name of a member to a relative path.

    Raises:
        ValueError: if the name could lead outside the target or mislead a reader; the message is the reason.

    Example:
        >>> safe_name("./set//a.jpg")
        'set/a.jpg'
    """
    parts = [part for part in name.split("/") if part not in {"", "."}]
    faults = [
        (any(unicodedata.category(letter) in {"Cc", "Cf", "Cs"} for letter in name), "control characters or no text"),
        ("\\" in name or ":" in name, "a backslash or colon in the name"),
        (name.startswith("/"), "an absolute path"),
        (".." in parts, "a path that leads out of the target"),
        (not parts, "no name"),
        (any(part[-1] in " ." for part in parts), "a dot or space at the end of a name"),
        (len(name) > 2000 or any(len(part.encode(errors="replace")) > 200 for part in parts), "too long a name"),
    ]
    if reason := next((reason for present, reason in faults if present), None):
        raise ValueError(reason)
    return "/".join(parts)


def _max_total(archive: Path, limits: Limits) -> int:
    try:
        return int(min(limits.total, max(_ALWAYS_ALLOWED, limits.ratio * archive.stat().st_size)))
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror})") from error


def _checked_entries(archive: Path, limits: Limits) -> Iterator[tuple[str, Entry]]:
    """Yield the safe name and the entry of every member ("" for the root folder); refuse any other with `DataError`."""
    for entry in entries(archive, _max_total(archive, limits) + _HEADER * limits.members):
        name, fault = "", entry.fault
        if not (entry.folder and set(entry.name.split("/")) <= {"", "."}):
            try:
                name = safe_name(entry.name)
            except ValueError as error:
                fault = str(error)
            if fault is not None:
                windows = "\\" in entry.name
                repair = "; a Windows program made it: unpack it with 7-Zip, and pack it again" if windows else ""
                raise DataError(f"{archive}: member '{printable(entry.name)}': {fault}; refused{repair}")
        yield name, entry


def _selected(archive: Path, select: Select, limits: Limits | None) -> dict[str, tuple[Member, str]]:
    """Return the selected members by name, each with its path in the target."""
    pairs = ((member, select(member.name)) for member in members(archive, limits))
    return {member.name: (member, safe_name(path)) for member, path in pairs if path is not None}


def _require_space(archive: Path, target: Path, needed: int) -> None:
    existing = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise WriteError(f"{target}: {archive.name} needs {needed / 1e9:.3g} GB, the disk has {free / 1e9:.3g} GB left")


def _size(path: Path) -> int | None:
    """Return the size of a file in bytes, None if nothing exists there, -1 if it is no regular file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _same(path: Path, member: Member) -> bool:
    if _size(path) != member.size:
        return False
    crc = 0
    if member.crc is not None:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                crc = zlib.crc32(chunk, crc)
    return member.crc in {None, crc}
