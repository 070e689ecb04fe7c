"""Whatever is damaged, a reader gives a result or an error of ours: in bounded time and memory, in one line."""

from __future__ import annotations

import resource
import shutil
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.readers import READERS
from voslab.core import VOSError

SECONDS = 30.0
"""No file may take longer, on a busy machine."""
MEBIBYTES = 1024
"""By how much all of a reader's files may raise the most memory that the process ever held."""
QUICK = {"video": 25, "coded_video": 12, "image": 60, "archive": 25, "checkpoint": 30}
FULL = {"video": 2000, "coded_video": 2000, "image": 2000, "archive": 2000}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def feed(name: str, folder: Path, examples: int, same: bool) -> Counter[str]:
    """Read a number of damaged files and count the outcomes."""
    (folder / "samples").mkdir()
    reader, counts, before = READERS[name](folder / "samples"), Counter[str](), peak()
    lines: list[str] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=same,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(reader.files)
    def one(file: tuple[str, bytes]) -> None:
        place = folder / "here"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        path = place / file[0]
        path.write_bytes(file[1])
        started = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(path)
            counts["read"] += 1
        except VOSError as error:
            counts[type(error).__name__] += 1
            lines.append(str(error))
        assert time.monotonic() - started < SECONDS

    one()
    assert not [line for line in lines if "\n" in line]
    assert peak() - before < MEBIBYTES
    return counts


@pytest.mark.parametrize("name", READERS)
def test_damage_is_a_result_or_an_error_of_ours(name: str, tmp_path: Path) -> None:
    counts = feed(name, tmp_path, QUICK.get(name, 40), same=True)
    assert sum(counts.values()) >= QUICK.get(name, 40) // 2
    assert 0 < counts["read"] < sum(counts.values())


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", READERS)
def test_much_damage_is(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = feed(name, tmp_path, FULL.get(name, 3000), same=False)
    with capsys.disabled():
        print(f"\n{name}: {sum(counts.values())} files: {', '.join(f'{k} {n}' for k, n in counts.most_common())}")
