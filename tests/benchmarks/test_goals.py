from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import corrections, covos, gpu, motion
from benchmarks.goals import start


@pytest.mark.parametrize(
    ("main", "argument", "message"),
    [
        (corrections.main, "data=missing", "missing: no such folder"),
        (corrections.main, "data", "data: no value"),
        (covos.main, "data=missing", "missing: no such folder"),
        (covos.main, "sequnces=bear", "no option sequnces; did you mean 'sequences'?; there are"),
        (motion.main, "paths.data=missing", "missing: no such folder"),
        (motion.main, "every", "every: no value"),
        (gpu.main, "data=missing", "no option data; there are methods"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_2(
    main: Callable[[], None],
    argument: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["benchmark", argument])
    with pytest.raises(SystemExit) as stop:
        start(main)
    printed = capsys.readouterr().err.strip()
    assert stop.value.code == 2
    assert printed.startswith(f"error: {message}")
    assert "\n" not in printed
