from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from voslab.core import WriteError, atomic_folder, atomic_path, atomic_write, cache_key, claimed, write_csv
from voslab.core.files import remove_partial


def test_atomic_write_creates_folders(tmp_path: Path) -> None:
    target = tmp_path / "a b" / "ü" / "file.json"
    atomic_write(target, "täxt")
    assert target.read_text(encoding="utf-8") == "täxt"
    assert [path.name for path in target.parent.iterdir()] == ["file.json"]


def test_full_disk_keeps_the_old_file_and_removes_the_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    atomic_write(target, b"old")

    def write_too_much() -> None:
        with atomic_path(target) as path:
            path.write_bytes(b"ne")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WriteError, match=r"file\.bin: cannot be written \(No space left on device\)"):
        write_too_much()
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_other_errors_propagate_and_keep_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    atomic_write(target, b"old")
    with pytest.raises(KeyError), atomic_path(target):
        raise KeyError
    assert target.read_bytes() == b"old"


def test_file_in_place_of_a_folder_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        atomic_write(tmp_path / "file" / "x.txt", "")


def test_file_permissions_follow_the_umask(tmp_path: Path) -> None:
    def write(name: str) -> int:
        with atomic_path(tmp_path / name) as path:
            path.write_text("whole")
            if name == "secret":
                path.chmod(0o600)
        return (tmp_path / name).stat().st_mode

    before = os.umask(0o027)
    try:
        assert write("secret") == write("plain") == 0o100640
    finally:
        os.umask(before)


def test_folder_is_locked_by_one_process_until_it_exits(tmp_path: Path) -> None:
    waits = (
        "import sys, pathlib, time; from voslab.core import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", waits, f"{tmp_path}/run"], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"1\n"
        with pytest.raises(WriteError, match="run: another process is writing there"), claimed(tmp_path / "run"):
            pass
        other.kill()
    with claimed(tmp_path / "run"), pytest.raises(OSError, match="passes by"):
        raise OSError("passes by")
    with claimed(tmp_path / "run"):
        pass


def test_csv_has_the_requested_columns(tmp_path: Path) -> None:
    rows = [{"name": "a, b", "score": 0.5}, {"name": "c", "score": None}]
    write_csv(tmp_path / "new" / "a.csv", rows)
    assert (tmp_path / "new" / "a.csv").read_text() == 'name,score\n"a, b",0.5\nc,\n'
    write_csv(tmp_path / "b.csv", [], ["name"])
    assert (tmp_path / "b.csv").read_text() == "name\n"


def test_a_folder_appears_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "cache"
    with atomic_folder(target) as folder:
        (folder / "a.txt").write_text("a")
        assert not target.exists()
        assert folder.parent == target.parent
        assert folder.name.startswith(".")
    assert (target / "a.txt").read_text() == "a"
    assert list(target.parent.iterdir()) == [target]


def test_an_interrupted_folder_is_deleted(tmp_path: Path) -> None:
    def write_some() -> None:
        with atomic_folder(tmp_path / "cache") as folder:
            (folder / "a.txt").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_some()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_published_first_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "cache"
    with atomic_folder(target) as folder:
        (folder / "a.txt").write_text("second")
        with atomic_folder(target) as winner:
            (winner / "a.txt").write_text("first")
    assert (target / "a.txt").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_at_the_path_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OSError, match="Not a directory"), atomic_folder(tmp_path / "cache"):
        pass
    assert (tmp_path / "cache").read_text() == "a file"
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]


def test_cache_keys_depend_on_values_types_and_order() -> None:
    parts = [(), (1,), ("1",), (1.0,), (None,), ([1],), (1, 2), (2, 1), ((1, 2),), ({"a": 1},), (b"1",), (b"2",)]
    keys = {cache_key(*part) for part in parts}
    assert len(keys) == len(parts)
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})


def test_cache_keys_of_files_change_with_size_time_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a")
    key = cache_key("video", [path])
    monkeypatch.chdir(tmp_path)
    assert cache_key("video", [Path("a.mp4")]) == key
    status = path.stat()
    path.write_bytes(b"ab")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    resized = cache_key("video", [path])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = cache_key("video", [path])
    moved = cache_key("video", [path.rename(tmp_path / "b.mp4")])
    assert len({key, resized, touched, moved}) == 4
    with pytest.raises(FileNotFoundError):
        cache_key(path)


def test_cache_keys_are_equal_in_every_process() -> None:
    command = "from voslab.core import cache_key; print(cache_key('a', {'b': 2.5, 'c': [None]}, 1 + 2j))"
    keys = {subprocess.check_output([sys.executable, "-c", command], text=True) for _ in range(2)}
    assert keys == {cache_key("a", {"b": 2.5, "c": [None]}, 1 + 2j) + "\n"}


def test_what_a_killed_program_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".order.0123456789ab").mkdir()
    for name in (".order.0123456789ab/7.npz", ".overlay.0123456789ab.mp4", ".keep", "mask.png"):
        (tmp_path / name).write_text("")
    remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".keep", "mask.png"]
