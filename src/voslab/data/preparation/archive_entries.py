"""What an archive has in it, entry by entry, whatever its format."""

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
from typing import IO, cast

from voslab.core.errors import DataError

CHUNK = 1 << 20
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError),
    *(struct.error, ValueError, LookupError, OverflowError),
)
_BLOCK = 512
_ZIP, _GZIP, _BZIP2, _XZ = b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
_LONGEST_HEADER = 16 << 20
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an archive.

    Attributes:
        name: as the archive has it, to be trusted in nothing.
        size: bytes that it declares.
        crc: CRC-32 that it declares (zip).
        folder: whether it is a folder; else a file, or what `fault` says.
        fault: why it must not be unpacked, whatever its name.
        open: its content; before the next entry is asked for.
    """

    name: str
    size: int
    crc: int | None
    folder: bool
    fault: str | None
    open: Callable[[], IO[bytes] | None]


def entries(archive: Path, most: int) -> Iterator[Entry]:
    """All entries of a zip, or of a tar with or without gzip, bzip2 or xz, in the archive's order.

    Args:
        archive: told by its content, not its name.
        most: bytes that decompressing a tar may give.

    Raises:
        DataError: no such file, not an archive, damaged, cut short, or decompressing to more than `most`.
    """
    try:
        with archive.open("rb") as file:
            start = file.read(_BLOCK)
            file.seek(0)
            if start.startswith(_ZIP):
                yield from _zip(file)
            else:
                yield from _tar(archive, _decompressed(file, start), most)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{archive}: cannot be read ({error.strerror})") from error
        raise DataError(f"{archive}: {_fault(start)} ({reason(error)})") from error


def content(archive: Path, entry: Entry, size: int) -> Iterator[bytes]:
    """The bytes of an entry in chunks.

    Raises:
        DataError: they are damaged, or not `size` bytes.
    """
    left, data, fault = size, None, None
    try:
        data = entry.open()
        while data is not None and (chunk := data.read(CHUNK)):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
        if left:
            fault = f"not the {size} bytes that it declares"
    except _DAMAGE as error:
        fault = reason(error)
    finally:
        if data is not None:
            data.close()
    if fault is not None:
        raise DataError(f"{archive}: member '{shown(entry.name)}' is damaged or cut short ({fault})")


def shown(name: str) -> str:
    """A name that no terminal takes for orders."""
    return (name if name.isprintable() else name.encode("unicode_escape").decode())[:120]


def reason(error: Exception) -> str:
    """What a library says, in one line."""
    return shown(" ".join(str(error).split())) or type(error).__name__


def _zip(file: IO[bytes]) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = _KINDS.get(stat.S_IFMT(info.external_attr >> 16))
            wrong = [
                (kind is not None, kind),
                (bool(info.flag_bits & 0x1), "encrypted"),
                (not info.flag_bits & 0x800 and not info.orig_filename.isascii(), "a name that is not in UTF-8"),
            ]
            fault = next((reason for bad, reason in wrong if bad), None)
            # The name up to a zero byte is what zipfile goes by; the whole of it is what counts here.
            yield Entry(info.orig_filename, info.file_size, info.CRC, info.is_dir(), fault, partial(archive.open, info))


def _tar(archive: Path, plain: IO[bytes], most: int) -> Iterator[Entry]:
    stream = _Forward(archive, plain, most)
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:", encoding="utf-8") as tar:
        for info in tar:
            wrong = [
                (info.issym(), "a symbolic link"),
                (info.islnk(), "a hard link"),
                (info.isfifo(), "a pipe"),
                (info.isdev(), "a device"),
                (info.issparse(), "a file with holes"),
                (not (info.isfile() or info.isdir()), "a kind that is not known"),
            ]
            fault = next((reason for bad, reason in wrong if bad), None)
            yield Entry(info.name, info.size, None, info.isdir(), fault, partial(tar.extractfile, info))
    # tarfile takes a damaged header, or the end of the file, for the end of the archive.
    if stream.last != bytes(_BLOCK):
        raise DataError(f"{archive}: damaged or cut short (there is no end mark behind the last member)")
    while stream.read(CHUNK):
        pass  # gzip and xz check their sums at the very end


def _fault(start: bytes) -> str:
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page was saved here, not the archive; download it again"
    if start.startswith((_ZIP, _GZIP, _BZIP2, _XZ)) or start[257:262] == b"ustar":
        return "damaged or cut short; download it again"
    return "neither a zip nor a tar archive"


def _decompressed(file: IO[bytes], start: bytes) -> IO[bytes]:
    if start.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start.startswith(_BZIP2):
        return bz2.BZ2File(file)
    if start.startswith(_XZ):
        return lzma.LZMAFile(file)
    return file


class _Forward:
    """A stream that tarfile can read, forwards only, and no more than `most` bytes of it."""

    def __init__(self, archive: Path, plain: IO[bytes], most: int) -> None:
        self._archive, self._plain, self._most = archive, plain, most
        self._position = 0
        self.last = b""

    def read(self, size: int = CHUNK) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._plain.read(size)
        self._position += len(self.last)
        if self._position > self._most:
            raise DataError(f"{self._archive}: would unpack to more than {self._most / 1e9:.3g} GB; refused as a bomb")
        return self.last

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.ReadError("a member that lies before the one ahead of it")
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass
        return self._position
