from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voslab.core import DataError, WriteError
from voslab.data.preparation.archives import Limits, Unpacked, compare, members, safe_name, unpack

FILES = {"set/a/0.jpg": b"first" * 99, "set/a/1.jpg": b"second", "set/list.txt": b"a\n", "set/empty": b""}
Make = Callable[[Path, dict[str, bytes]], Path]


def all_members(name: str) -> str:
    return name


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


NAMES = ["x.zip", "x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"]


def make(path: Path, files: dict[str, bytes] = FILES) -> Path:
    return make_zip(path, files) if path.suffix == ".zip" else make_tar(path, files)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_unpacked_once(name: str, tmp_path: Path) -> None:
    archive, target = make(tmp_path / name), tmp_path / "target"
    assert {m.name: m.size for m in members(archive)} == {name: len(content) for name, content in FILES.items()}
    seen: list[tuple[int, int]] = []
    assert unpack(archive, target, all_members, progress=lambda *now: seen.append(now)) == Unpacked(4, 0, ())
    assert tree(target) == FILES
    total = sum(map(len, FILES.values()))
    assert seen[-1] == (total, total)
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert compare(archive, target, all_members) == ((), ())
    assert unpack(archive, target, all_members) == Unpacked(0, 4, ())
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == times


def test_content_decides_the_format(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar.gz", FILES).rename(tmp_path / "train.zip")
    assert len(members(archive)) == 4


def test_select_sets_the_path_of_each_file(tmp_path: Path) -> None:
    archive = make(tmp_path / "x.zip")
    done = unpack(archive, tmp_path / "t", lambda name: f"DAVIS/{name[4:]}" if name.endswith("jpg") else None)
    assert done.written == 2
    assert sorted(tree(tmp_path / "t")) == ["DAVIS/a/0.jpg", "DAVIS/a/1.jpg"]
    with pytest.raises(ValueError, match="leads out"):
        unpack(archive, tmp_path / "t", lambda name: f"../{name}")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_unpack_resumes_after_an_interruption(name: str, tmp_path: Path) -> None:
    archive, target = make(tmp_path / name), tmp_path / "target"

    def kill(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, target, all_members, progress=kill)
    assert tree(target) == {"set/a/0.jpg": FILES["set/a/0.jpg"]}
    assert compare(archive, target, all_members) == (tuple(list(FILES)[1:]), ())
    assert unpack(archive, target, all_members) == Unpacked(3, 1, ())
    assert tree(target) == FILES


def test_files_that_differ_are_left_alone(tmp_path: Path) -> None:
    archive, target = make(tmp_path / "x.zip"), tmp_path / "target"
    (target / "set" / "a").mkdir(parents=True)
    (target / "set/list.txt").write_bytes(b"b\n")  # same size, other content
    (target / "set/a/1.jpg").write_bytes(b"mine")
    assert compare(archive, target, all_members) == (("set/a/0.jpg", "set/empty"), ("set/a/1.jpg",))
    done = unpack(archive, target, all_members)
    assert done == Unpacked(2, 0, (target / "set/a/1.jpg", target / "set/list.txt"))
    assert (target / "set/list.txt").read_bytes() == b"b\n"


EVIL = [
    ("../x", "leads out"),
    ("a/../../x", "leads out"),
    ("/etc/x", "an absolute path"),
    ("C:/x", "backslash or colon"),
    ("a\\..\\..\\x", "backslash or colon"),
    ("a/b\n.jpg", "control characters"),
    ("a/\u202egpj.exe", "control characters"),
    ("a/.. /x", "dot or space"),
    ("a" * 300, "too long"),
]


@pytest.mark.parametrize(("evil", "reason"), EVIL)
@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_unsafe_names_refuse_the_archive(name: str, evil: str, reason: str, tmp_path: Path) -> None:
    archive = make(tmp_path / name, {"good": b"1", evil: b"2"})
    with pytest.raises(DataError, match=reason) as caught:
        unpack(archive, tmp_path / "in" / "target", all_members)
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_name_with_a_hidden_end_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a.jpgQ.exe": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"a.jpgQ.exe", b"a.jpg\0.exe"))
    with pytest.raises(DataError, match=r"member 'a\.jpg\\x00\.exe': control"):
        members(archive)


def test_names_in_unknown_encodings_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"aQQb": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"aQQb", b"a\x81\x82b"))
    with pytest.raises(DataError, match="not in UTF-8"):
        members(archive)
    with pytest.raises(DataError, match="control characters or no text"):
        members(make_tar(tmp_path / "x.tar", {os.fsdecode(b"a\xff"): b"1"}))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"Z", "an unknown type of member"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, reason: str, tmp_path: Path) -> None:
    info = tarfile.TarInfo("out")
    info.type, info.linkname = kind, str(tmp_path)
    through = tarfile.TarInfo("out/file")
    with pytest.raises(DataError, match=rf"x\.tar: member 'out': {reason}; refused"):
        unpack(make_tar(tmp_path / "x.tar", FILES, (info, through)), tmp_path / "target", all_members)
    assert not (tmp_path / "target").exists()
    assert not (tmp_path / "file").exists()


def test_a_sparse_file_in_a_tar_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("holes")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000000", "GNU.sparse.numblocks": "1"}
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info, io.BytesIO())
    with pytest.raises(DataError, match=r"bomb|'holes': a sparse file"):
        members(archive)


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(special("out", stat.S_IFLNK | 0o777), str(tmp_path))
        archive.writestr("out/file", b"1")
    with pytest.raises(DataError, match="member 'out': a symbolic link"):
        unpack(tmp_path / "x.zip", tmp_path / "target", all_members)


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_permissions_are_not_restored(name: str, tmp_path: Path) -> None:
    if name == "x.zip":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(special("file", stat.S_IFREG | 0o6777), b"1")
    else:
        info = tarfile.TarInfo("file")
        info.mode = 0o6777
        make_tar(tmp_path / name, {}, (info,))
    unpack(tmp_path / name, tmp_path / "target", all_members)
    assert stat.S_IMODE((tmp_path / "target/file").stat().st_mode) & 0o7111 == 0


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
@pytest.mark.parametrize(
    ("names", "reason"),
    [(("a/b", "a//b"), "two members are named 'a/b'"), (("a", "a/b"), "'a' is a file and a folder")],
)
def test_names_that_clash_are_refused(name: str, names: tuple[str, str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        members(make(tmp_path / name, dict.fromkeys(names, b"1")))


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(DataError, match="two members are named 'a'"):
        members(tmp_path / "x.zip")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
def test_bombs_are_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / name, {"good": b"1", "zeros": bytes(20 << 20)})
    assert archive.stat().st_size < 100_000
    with pytest.raises(DataError, match="would unpack to more than"):
        unpack(archive, tmp_path / "target", all_members)
    assert not (tmp_path / "target").exists()
    assert len(members(archive, Limits(ratio=1e6))) == 2


def test_many_members_and_large_ones_are_refused(tmp_path: Path) -> None:
    for name in ("x.zip", "x.tar"):
        archive = make(tmp_path / name, {f"{i}/f": bytes(9) for i in range(11)})
        assert len(members(archive, Limits(members=11, total=99))) == 11
        with pytest.raises(DataError, match="more than 10 members"):
            members(archive, Limits(members=10))
        with pytest.raises(DataError, match="would unpack to more"):
            members(archive, Limits(total=98))


def test_an_oversized_header_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(4096)))
    with pytest.raises(DataError, match="a header of 4294967296 bytes"):
        members(tmp_path / "x.tar.gz")


def patched(archive: Path, at: bytes, offset: int, size: int) -> None:
    """Overwrite a length in each header of the first member."""
    content = bytearray(archive.read_bytes())
    struct.pack_into("<I", content, content.index(at) + offset, size)
    archive.write_bytes(content)


@pytest.mark.parametrize("lie", [3, 9_999])
def test_a_member_that_is_not_as_long_as_it_declares(lie: int, tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a": b"12345", "b": b"1"})
    patched(archive, b"PK\x01\x02", 24, lie)
    with pytest.raises(DataError, match=r"x\.zip: member 'a' is damaged or cut short"):
        unpack(archive, tmp_path / "target", all_members)
    assert tree(tmp_path / "target") == {}


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a": b"12345"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="member 'a': encrypted"):
        members(archive)


def test_a_damaged_member_is_named_and_earlier_files_stay(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in "abc":
            file.writestr(name, name * 50)
    archive.write_bytes(archive.read_bytes().replace(b"b" * 50, b"b" * 49 + b"x"))
    with pytest.raises(DataError, match=r"x\.zip: member 'b' is damaged or cut short \(Bad CRC-32"):
        unpack(archive, tmp_path / "target", all_members)
    assert tree(tmp_path / "target") == {"a": b"a" * 50}


@pytest.mark.parametrize("name", NAMES)
def test_truncated_archives_are_refused(name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / name, {"a": os.urandom(3000), "b": os.urandom(700)})
    content = archive.read_bytes()
    end = 3584 + 2 * 512 if name == "x.tar" else len(content) - 1
    for size in {1, 300, 512, 1024, 3584, 3000, end - 512, end} & set(range(len(content))):
        archive.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"x\..*(damaged or cut short|neither a zip nor a tar)"):
            unpack(archive, tmp_path / "target", all_members)
    assert not tree(tmp_path / "target")


def test_a_damaged_header_does_not_end_a_tar_silently(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", {"a": b"1", "b": b"2"})
    content = bytearray(archive.read_bytes())
    content[1024:1030] = b"wrong!"
    archive.write_bytes(content)
    with pytest.raises(DataError, match="no end mark"):
        members(archive)


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.zip"
    path.write_text("<!DOCTYPE html><html>Google Drive cannot scan this file for viruses")
    with pytest.raises(DataError, match=r"train\.zip: a web page instead of the archive"):
        members(path)
    path.write_bytes(b"\xff\xd8\xff\xe0" * 400)
    with pytest.raises(DataError, match="neither a zip nor a tar"):
        members(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="neither a zip nor a tar"):
        members(path)
    with pytest.raises(DataError, match=r"none\.zip: cannot be read \(No such file"):
        members(tmp_path / "none.zip")
    with pytest.raises(DataError, match="cannot be read"):
        members(tmp_path)


def test_nothing_is_written_without_enough_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, target = make(tmp_path / "x.zip"), tmp_path / "target"
    free = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free(1000, 600, 400))
    with pytest.raises(WriteError, match=r"target: x\.zip needs .* the disk has"):
        unpack(archive, target, all_members)
    (target / "set/a").mkdir(parents=True)
    (target / "set/a/0.jpg").write_bytes(FILES["set/a/0.jpg"])
    assert unpack(archive, target, all_members).written == 3


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_without_a_tar_are_refused(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(compress(b"just text" * 500))
    with pytest.raises(DataError, match="damaged or cut short"):
        members(tmp_path / "x.gz")


PIECES = st.sampled_from(["..", ".", "", "a", "b.jpg", "C:", "\\", "~", "/", "\0", "\u202e", " ", "é", "..a", "a."])


@given(st.one_of(st.text(max_size=20), st.lists(PIECES, max_size=6).map("/".join), st.lists(PIECES).map("".join)))
def test_a_safe_name_stays_inside(name: str) -> None:
    try:
        plain = safe_name(name)
    except ValueError:
        return
    assert safe_name(plain) == plain
    path = PurePosixPath(plain)
    assert str(path) == plain
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert "\\" not in plain
    assert (Path("/target") / plain).resolve().is_relative_to("/target")


PATHS = st.lists(PIECES.filter(lambda piece: piece != "\0"), min_size=1, max_size=4).map("/".join).filter(bool)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PATHS, min_size=1, max_size=4, unique=True), st.sampled_from(NAMES[:2]))
def test_no_name_leads_to_a_file_outside_the_target(tmp_path: Path, names: list[str], kind: str) -> None:
    place = tmp_path / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    archive = make(place / kind, dict.fromkeys(names, b"1"))
    try:
        unpack(archive, place / "in" / "target", all_members)
    except DataError:
        assert not (place / "in").exists()
    inside = place / "in" / "target"
    assert all(path == archive or path.is_relative_to(inside) for path in place.rglob("*") if path.is_file())
