"""Tests of run records, studies and pages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from voslab.core import ConfigError, DataError
from voslab.reporting.figures import draw, lines
from voslab.reporting.index import index
from voslab.reporting.page import page, table_csv
from voslab.reporting.run_record import RunRecord, read_records
from voslab.reporting.study_files import read_study, study_folders
from voslab.reporting.summary import record_sequences, summarise

ROOT = Path(__file__).resolve().parents[2] / "experiments"
STUDY = """
title: A study
question: Which is best?
found: "One, with {one[J&F-Mean]}; see [another](../other/README.md)."
limits: "Only two runs."
columns: [J&F-Mean, frames_per_second]
rows:
  one: {label: "`one`", records: [a, b], paper: {J&F-Mean: 70.0}}
  other: {label: other, records: [c], before: ["python -m src.train experiment=other"]}
figures:
  bars: {kind: sequences, caption: Sequence by sequence.}
  speed: {kind: bubbles, caption: Speed., rows: [one]}
  curves: {kind: curves, caption: Curves., files: [run.csv]}
  sheet: {kind: file, caption: Masks., files: [sheet.jpg]}
  against:
    kind: lines
    caption: Score against speed.
    axes: [frames_per_second, peak_memory_mb]
    lines: {both: [one, other], one: [one]}
    marks: {aim: [4.0, 500.0]}
"""


def record(score: float | None, seed: int = 0) -> dict[str, Any]:
    rows = [{"sequence": "dog", "object": i, "J&F-Mean": value} for i, value in ((1, 0.2), (2, 0.4))]
    return {
        "command": ["python", "-m", "src.evaluate", "model=stcn", f"seed={seed}"],
        "commit": "0123456789abcdef+",
        "hardware": {"cpu": "A CPU", "cores": 2, "threads": 2, "gpus": []},
        "data": {"sequences": 1, "frames": 9, "fingerprint": "f00d"},
        "metrics": {"J&F-Mean": score, "frames_per_second": 5.0, "peak_memory_mb": 600.0},
        "config": {"seed": seed},
        "per_sequence": [*rows, {"sequence": "cow", "object": 1, "J&F-Mean": 0.9}],
    }


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "records").mkdir()
    for name, content in {"a": record(0.6), "b": record(0.7, 1), "c": record(None)}.items():
        (tmp_path / "records" / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "notes.md").write_text("One reaches {one[J&F-Mean]} at {one[frames_per_second]} frames/s.")
    (tmp_path / "sheet.jpg").write_bytes(b"an image")
    (tmp_path / "run.csv").write_text("step,train/loss,val/J&F-Mean\n1,2.0,\n2,1.0,0.5\n")
    return tmp_path


def test_page_averages_runs_and_compares_with_the_paper(study: Path) -> None:
    text = page(read_study(study))
    assert text.split("\n\n")[2:5] == [
        "One, with 65.0 ± 7.1; see [another](../other/README.md).",
        "**Question.** Which is best?",
        "*Only two runs.*",
    ]
    assert "| `one` | 65.0 ± 7.1 (paper 70, -5.0) | 5.0 |" in text
    assert "| other | - | 5.0 |" in text
    assert "![Masks.](sheet.jpg)" in text
    assert "![Speed.](figures/speed.png)" in text
    assert "One reaches 65.0 ± 7.1 at 5.0 frames/s." in text


def test_speed_of_a_row_can_come_from_a_benchmark(study: Path) -> None:
    points = [{"height": 240, "width": 427, "objects": 1, "memory_frames": 5, "frames_per_second": 8.0}]
    benchmark = {**record(None), "command": ["python", "-m", "src.benchmark"], "metrics": {"points": points}}
    (study / "records" / "d.json").write_text(json.dumps(benchmark))
    path = study / "study.yaml"
    path.write_text(path.read_text().replace("records: [c],", "records: [c], speed: d@240x427-1-5,"))
    text = page(read_study(study))
    assert "| other | - | 8.0 |" in text
    assert "python -m src.evaluate model=stcn seed=0\npython -m src.benchmark\n" in text
    assert "(records/d.json)" in text
    path.write_text(path.read_text().replace("240x427-1-5", "240x427-1-6"))
    with pytest.raises(ConfigError, match=r"rows\.other: there is no records/d\.json"):
        read_study(study)
    (study / "records" / "e.json").write_text(json.dumps({**record(0.5), "metrics": {"J&F-Mean": 0.5}}))
    path.write_text(path.read_text().replace("d@240x427-1-6", "e"))
    with pytest.raises(DataError, match=r"rows\.other: e has no 'frames_per_second'"):
        read_study(study)


def test_index_shows_what_each_study_found_and_the_chart(study: Path) -> None:
    text = index([read_study(study)])
    assert "| `one` | 65.0 ± 7.1 (paper 70, -5.0) | 5.0 |" in text
    assert f"![Speed.]({study.name}/figures/speed.png)" in text
    found = f"One, with 65.0 ± 7.1; see [another]({study.name}/../other/README.md)."
    assert text.endswith(f"* [A study]({study.name}/README.md). {found}\n")


def test_index_of_a_study_without_findings_asks_its_question(study: Path) -> None:
    text = index([replace(read_study(study), found="", figures={})])
    assert text.endswith(f"* [A study]({study.name}/README.md). Which is best?\n")
    assert "![" not in text


def test_line_joins_its_rows_from_left_to_right(study: Path) -> None:
    for name, metrics in {"a": (30.0, 2.0), "b": (50.0, 4.0), "c": (20.0, 7.0)}.items():
        path = study / "records" / f"{name}.json"
        content = json.loads(path.read_text())
        content["metrics"] |= dict(zip(("frames_per_second", "peak_memory_mb"), metrics, strict=True))
        path.write_text(json.dumps(content))
    read = read_study(study)
    [axes] = lines(read, read.figures["against"]).axes
    drawn = {str(line.get_label()): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"both": [[20.0, 7.0], [40.0, 3.0]], "one": [[40.0, 3.0]], "_aim": [[4.0, 500.0]]}
    assert [text.get_text() for text in axes.texts] == ["aim"]


def test_axis_may_be_a_number_of_the_configuration(study: Path) -> None:
    path = study / "study.yaml"
    path.write_text(path.read_text().replace("axes: [frames_per_second,", "axes: [seed,"))
    for name, memory in {"a": 2.0, "b": 4.0, "c": 7.0}.items():
        record = study / "records" / f"{name}.json"
        content = json.loads(record.read_text())
        content["metrics"]["peak_memory_mb"] = memory
        record.write_text(json.dumps(content))
    read = read_study(study)
    [axes] = lines(read, read.figures["against"]).axes
    assert axes.lines[0].get_xydata().tolist() == [[0.0, 3.0], [0.0, 7.0]]
    path.write_text(path.read_text().replace("axes: [seed,", "axes: [model.seed,"))
    with pytest.raises(DataError, match=r"neither a metric nor a number .* 'model\.seed'"):
        draw(read_study(study), "against")


def test_additional_table_removes_its_rows_from_the_first(study: Path) -> None:
    further = "tables: {speed: {caption: Speed alone., columns: [frames_per_second], rows: [other]}}\n"
    (study / "study.yaml").write_text(STUDY + further)
    first, second = page(read_study(study)).split("*Speed alone.*\n\n")
    assert "| `one` | 65.0" in first
    assert "| other |" not in first
    assert second.startswith("| row | frames/s |\n| --- | --- |\n| other | 5.0 |\n\n![")
    assert [line.split(",")[:2] for line in table_csv(read_study(study)).splitlines()[1:]] == [
        ["one", "J&F-Mean"],
        ["one", "frames_per_second"],
        ["other", "frames_per_second"],
    ]
    (study / "study.yaml").write_text(STUDY + further.replace("[other]", "[two]"))
    with pytest.raises(ConfigError, match=r"tables\.speed: there is no row 'two'"):
        read_study(study)


def test_reference_numbers_name_their_source(study: Path) -> None:
    (study / "study.yaml").write_text(STUDY + "source: earlier\n")
    assert "65.0 ± 7.1 (earlier 70, -5.0)" in page(read_study(study))


def test_page_shows_command_and_circumstances_of_a_row(study: Path) -> None:
    text = page(read_study(study))
    assert "# other\npython -m src.train experiment=other\npython -m src.evaluate model=stcn seed=0\n```" in text
    assert "commit 0123456789+; seed 0, 1; 1 sequences, 9 frames, fingerprint f00d; A CPU, 2 CPU threads" in text
    assert "[a](records/a.json), [b](records/b.json)" in text


def test_rows_of_equal_circumstances_share_a_block(study: Path) -> None:
    path = study / "study.yaml"
    path.write_text(path.read_text().replace("records: [a, b]", "records: [a]"))
    text = page(read_study(study))
    assert "# `one`\npython -m src.evaluate model=stcn seed=0\n# other\npython -m src.train" in text
    assert "; records [a](records/a.json), [c](records/c.json)" in text


def test_csv_is_not_rounded(study: Path) -> None:
    lines = table_csv(read_study(study)).splitlines()
    assert lines[0] == "row,metric,runs,mean,deviation,paper"
    name, metric, runs, mean, deviation, paper = lines[1].split(",")
    assert (name, metric, runs, paper) == ("one", "J&F-Mean", "2", "70.0")
    assert float(mean) == pytest.approx(0.65, abs=1e-12)
    assert float(deviation) == pytest.approx(0.05 * math.sqrt(2), abs=1e-12)
    assert lines[3] == "other,J&F-Mean,1,,,"


def test_score_of_a_sequence_is_the_mean_over_its_objects(study: Path) -> None:
    found = read_records(study)
    assert record_sequences(found["a"]) == {"dog": pytest.approx(0.3), "cow": 0.9}
    assert summarise([found["a"]], "J&F-Mean").mean == 0.6
    without = replace(found["a"], per_sequence=[{"sequence": "dog", "J of B-frames": 0.5}])
    assert record_sequences(without) == {}


def test_record_round_trips_through_json(study: Path) -> None:
    text = (study / "records" / "a.json").read_text()
    found = RunRecord.from_json("a", text)
    assert RunRecord.from_json("a", found.to_json()) == found
    content = json.loads(found.to_json())
    assert {key: content[key] for key in json.loads(text)} == json.loads(text)


def test_metrics_of_old_records_have_their_present_names(study: Path) -> None:
    content = record(0.5)
    content["metrics"] |= {"begin_seconds": 2.0, "parameters_m": 3.5}
    found = RunRecord.from_json("old", json.dumps(content))
    assert (found.metric("first_frame_seconds"), found.metric("params_millions")) == (2.0, 3.5)


def test_a_broken_record_is_reported(study: Path) -> None:
    path = study / "records" / "a.json"
    path.write_text('{"command": []}')
    with pytest.raises(DataError, match=r"a\.json: not a record: it lacks commit, config, hardware, metrics"):
        read_records(study)
    path.write_text("{")
    with pytest.raises(DataError, match=r"a\.json: cannot be read"):
        read_records(study)


def test_each_point_of_a_benchmark_is_a_record(study: Path) -> None:
    points = [
        {"height": 480, "width": 854, "objects": 1, "memory_frames": frames, "seconds": seconds, "error": error}
        for frames, seconds, error in ((1, 0.5, None), (20, None, "out of memory"))
    ]
    content = {**record(0.0), "metrics": {"points": points}}
    (study / "records" / "d.json").write_text(json.dumps(content))
    rows = {
        "few": {"label": "few", "records": ["d@480x854-1-1"]},
        "many": {"label": "many", "records": ["d@480x854-1-20"]},
    }
    (study / "study.yaml").write_text(json.dumps({"title": "T", "question": "Q", "columns": ["seconds"], "rows": rows}))
    (study / "notes.md").write_text("{few[seconds]} s at {few[height]}")
    text = page(read_study(study))
    assert "| few | 0.50 |\n| many | - |" in text
    assert "0.50 s at 480" in text
    assert "# few\n# many\npython -m src.evaluate model=stcn seed=0\n```" in text
    assert "records [d](records/d.json)\n" in text


@pytest.mark.parametrize("name", ["bars", "speed", "curves", "against"])
def test_figures_are_reproducible(study: Path, name: str) -> None:
    first = draw(read_study(study), name).read_bytes()
    assert first.startswith(b"\x89PNG")
    assert draw(read_study(study), name).read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("records: [c]", "records: [lost]", "there is no records/lost.json"),
        ("rows: [one]", "rows: [two]", "no row 'two'"),
        ("records: [c]", "records: c", r"rows\.other\.records=c: must be"),
        ("label: other", "lable: other", "did you mean 'label'"),
        ("kind: bubbles", "kind: bubles", "unknown kind 'bubles'"),
        ("columns: [J&F-Mean,", "columns: [K-Mean,", "has no 'K-Mean'"),
        ("files: [run.csv]", "files: [lost.csv]", "lost.csv"),
        ("both: [one, other]", "both: [one, two]", "no row 'two'"),
        ("aim: [4.0, 500.0]", "aim: [4.0]", r"figures\.against: not enough values"),
        ("axes: [frames_per_second, peak", "axes: [frames_per_second, K-Mean, peak", "too many values"),
        ("files: [sheet.jpg]", "files: [lost.jpg]", r"there is no .*lost\.jpg"),
        ("title: A study", "title: [", "cannot be read"),
        ("title: A study", "claims:\ntitle: A study", r"study\.yaml: claims: expected a mapping of names to entries"),
    ],
)
def test_error_in_a_study_is_reported_in_one_line(study: Path, old: str, new: str, said: str) -> None:
    (study / "study.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises((ConfigError, DataError), match=said) as caught:
        [draw(read, name) for read in [read_study(study)] for name in read.figures]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{two[J&F-Mean]}", "{one[K-Mean]}", "{one", "{}"])
def test_notes_reject_numbers_without_a_record(study: Path, text: str) -> None:
    (study / "notes.md").write_text(text)
    with pytest.raises(ConfigError, match=r"notes\.md"):
        page(read_study(study))


@pytest.mark.parametrize("folder", study_folders(ROOT), ids=lambda folder: folder.name)
def test_committed_pages_match_their_records(folder: Path) -> None:
    study = read_study(folder)
    assert (folder / "README.md").read_text() == page(study)
    assert (folder / "table.csv").read_text() == table_csv(study)


def test_committed_overview_matches_the_studies() -> None:
    assert (ROOT / "README.md").read_text() == index([read_study(folder) for folder in study_folders(ROOT)])


def test_a_folder_without_studies_gets_no_overview(run: Run, tmp_path: Path) -> None:
    assert not run("report", f"paths.experiments={tmp_path}/none")
    assert not (tmp_path / "none").exists()
