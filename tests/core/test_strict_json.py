from __future__ import annotations

import os
from pathlib import Path

import pytest

from voslab.core.strict_json import read_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "the name 'c' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 50_000, "nested too deeply"),
        ("9" * 5000, "4300"),
        ('{"a": ', "Expecting value"),
        ("", "Expecting value"),
        (b"\xff\xfe\xfa", "decode"),
    ],
)
def test_what_is_no_json_is_a_value_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_json(path)


def test_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ä": [1, 2.5, null, true, {"x": {}}]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"ä": [1, 2.5, None, True, {"x": {}}]}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(OSError, match="not a file"):
        read_json(tmp_path / "a.json")
