"""Lists and reads the entries of zip and tar archives, in the archive's order."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from voslab.core.errors import DataError

CHUNK = 1 << 20
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError),
    *(struct.error, ValueError, LookupError, OverflowError),
)
_BLOCK = 512
_ZIP = b"PK"
_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_MAX_HEADER = 16 << 20
_ZIP_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an archive, not yet checked.

    Attributes:
        name: name in the archive.
        size: declared size in bytes.
        crc: declared CRC-32 (zip).
        folder: whether it is a folder.
        fault: reason to refuse it, whatever its name.
        open: opens its content; valid until the next entry is requested.
    """

    name: str
    size: int
    crc: int | None
    folder: bool
    fault: str | None
    open: Callable[[], IO[bytes] | None]


def entries(archive: Path, max_bytes: int) -> Iterator[Entry]:
    """Yield all entries of a zip archive, or of a tar archive with or without gzip, bzip2 or xz compression.

    Args:
        archive: archive; its content decides the format, not its name.
        max_bytes: most bytes that a tar archive may decompress to.

    Raises:
        DataError: if it is missing, damaged, cut short, no archive, or decompresses to more than `max_bytes`.
    """
    start = b""
    try:
        with archive.open("rb") as file:
            start = file.read(_BLOCK)
            file.seek(0)
            if start.startswith(_ZIP):
                yield from _zip_entries(file)
            else:
                decompress = next(
                    (function for magic, function in _COMPRESSED.items() if start.startswith(magic)), None
                )
                yield from _tar_entries(archive, decompress(file) if decompress else file, max_bytes)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{archive}: cannot be read ({error.strerror})") from error
        raise DataError(f"{archive}: {_fault(start)} ({_reason(error)})") from error


def content(archive: Path, entry: Entry, size: int) -> Iterator[bytes]:
    """Yield the content of an entry in chunks.

    Args:
        archive: archive, for messages.
        entry: entry to read.
        size: expected size in bytes.

    Raises:
        DataError: if the content is damaged or has another size.
    """
    remaining = size
    try:
        opened = entry.open()
        if opened is None:
            raise ValueError("no content")
        with opened:
            while remaining >= 0 and (chunk := opened.read(CHUNK)):
                remaining -= len(chunk)
                if remaining >= 0:
                    yield chunk
        if remaining:
            raise ValueError(f"not the declared {size} bytes")
    except _DAMAGE as error:
        member = f"{archive}: member '{printable(entry.name)}'"
        raise DataError(f"{member} is damaged or cut short ({_reason(error)})") from error


def printable(name: str) -> str:
    """Return a name without control characters, cut to 120 characters."""
    return (name if name.isprintable() else name.encode("unicode_escape").decode())[:120]


def _reason(error: Exception) -> str:
    """Return a library's message in one line."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def _zip_entries(file: IO[bytes]) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for info, name in zip(members, _with_slashes([info.orig_filename for info in members]), strict=True):
            fault = _ZIP_KINDS.get(stat.S_IFMT(info.external_attr >> 16))
            if fault is None and info.flag_bits & 0x1:
                fault = "encrypted"
            if fault is None and not info.flag_bits & 0x800 and not info.orig_filename.isascii():
                fault = "a name that is not in UTF-8"
            # zipfile cuts `filename` at a zero byte; the checks need the whole name.
            folder = name.endswith("/")
            yield Entry(name, info.file_size, info.CRC, folder, fault, partial(archive.open, info))


def _with_slashes(names: list[str]) -> list[str]:
    """Replace backslashes, with which some Windows programs separate folders, if no name has a slash or is unsafe."""
    others = ("/" in name or ":" in name or name.startswith("\\") or ".." in name.split("\\") for name in names)
    return names if any(others) else [name.replace("\\", "/") for name in names]


def _tar_entries(archive: Path, plain: IO[bytes], max_bytes: int) -> Iterator[Entry]:
    stream = _LimitedStream(archive, plain, max_bytes)
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:", encoding="utf-8") as tar:
        for info in tar:
            fault = _TAR_KINDS.get(info.type)
            if fault is None and info.issparse():
                fault = "a sparse file"
            if fault is None and not (info.isfile() or info.isdir()):
                fault = "an unknown type of member"
            yield Entry(info.name, info.size, None, info.isdir(), fault, partial(tar.extractfile, info))
    # tarfile treats a damaged header, or the end of the file, as the end of the archive.
    if stream.last != bytes(_BLOCK):
        raise DataError(f"{archive}: damaged or cut short (no end mark after the last member)")
    while stream.read(CHUNK):
        pass  # gzip and xz verify their checksums at the end


def _fault(start: bytes) -> str:
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page instead of the archive; download it again"
    if start.startswith((_ZIP, *_COMPRESSED)) or start[257:262] == b"ustar":
        return "damaged or cut short; download it again"
    return "neither a zip nor a tar archive"


class _LimitedStream:
    """Reads at most `max_bytes` bytes of a tar archive, forward only."""

    def __init__(self, archive: Path, plain: IO[bytes], max_bytes: int) -> None:
        self._archive, self._plain, self._max_bytes = archive, plain, max_bytes
        self._position = 0
        self.last = b""

    def read(self, size: int = CHUNK) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._plain.read(size)
        self._position += len(self.last)
        if self._position > self._max_bytes:
            limit = f"{self._max_bytes / 1e9:.3g} GB"
            raise DataError(f"{self._archive}: would unpack to more than {limit}; refused as a bomb")
        return self.last

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.ReadError("a member that starts before the end of the previous one")
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass
        return self._position
