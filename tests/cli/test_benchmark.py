"""`python -m src.benchmark` as people use it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

from tests.test_cli import ROOT, program, table

NETWORK = (
    "model=stm",
    *(f"model.network.{key}" for key in ("backbone=resnet18", "norm=group", "width=4", "decoder_width=4")),
)


def test_a_row_per_point_in_the_terminal_the_csv_the_json_and_the_record(tmp_path: Path) -> None:
    # More than any machine can address.
    sizes = "sizes=[[30,40],[20000000,20000000]]"
    arguments = (sizes, "objects=[2]", "memory=[1,3]", "threads=1", "engine.device=cpu", "record=speed")
    done = program("benchmark", *NETWORK, *arguments, f"output={tmp_path}", f"paths.experiments={tmp_path}/studies")
    rows = table(tmp_path / "benchmark.csv")
    assert [(row["height"], row["memory_frames"], row["error"]) for row in rows] == [
        ("30", "1", ""),
        ("30", "3", ""),
        ("20000000", "1", "out of memory"),
        ("20000000", "3", "out of memory"),
    ]
    first, second = rows[:2]
    assert int(second["memory_bytes"]) == 3 * int(first["memory_bytes"]) > 0
    stages = [float(first[f"{name}_seconds"]) for name in ("encode", "memorise", "read", "decode", "rest")]
    assert abs(sum(stages) - float(first["seconds"])) < 1e-9
    assert abs(float(first["frames_per_second"]) * float(first["seconds"]) - 1) < 1e-9
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert content["model"] == "stm"
    assert [
        {key: "" if value is None else str(value) for key, value in row.items()} for row in content["points"]
    ] == rows
    [record] = (tmp_path / "studies" / "speed" / "records").iterdir()
    kept = json.loads(record.read_text())
    assert (kept["kind"], kept["data"], kept["hardware"]["threads"]) == ("benchmark", None, 1)
    assert kept["metrics"]["points"] == content["points"]
    printed = [line.split() for line in done.stdout.splitlines()]
    assert ["30x40", "2", "3"] in [words[:3] for words in printed]
    assert sum("out of memory" in line for line in done.stdout.splitlines()) == 2


def test_a_run_that_is_killed_keeps_its_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "src.benchmark", *NETWORK, "objects=[1]", "memory=[1]", f"output={tmp_path}"]
    process = subprocess.Popen([*command, "sizes=[[32,32],[800,800]]", "repeats=200"], cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "benchmark.csv").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    [row] = csv.DictReader((tmp_path / "benchmark.csv").read_text().splitlines())
    assert row["height"] == "32"


def test_a_missing_model_is_reported() -> None:
    done = program("benchmark", code=2)
    assert done.stderr.strip() == "error: give either checkpoint=FILE or model=NAME"
