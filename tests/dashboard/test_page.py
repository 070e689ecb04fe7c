"""The page of the dashboards: what is in it, and that it needs nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from voslab.core import ConfigError, DataError
from voslab.dashboard.charts import Axis, Bubble, Line, bubbles, lines, nice
from voslab.dashboard.page import page_of
from voslab.dashboard.runs import Run as StudyRun
from voslab.dashboard.runs import read_runs
from voslab.dashboard.views import VIEWS

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
CURVES = (
    "step,train/loss,val/J&F-Mean,lr-Adam,val/sequences/dog\n0,2.0,,0.1,\n1,1.0,,0.1,\n1,,0.5,,0.25\n2,0.5,,0.01,\n"
)
VOID = {"meta", "link", "img", "circle", "line", "polyline"}


class Tags(HTMLParser):
    """Whether tags close, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.places: list[str] = []
        self.found: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.places += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of runs with one in it, as `src.train` leaves it."""
    run = tmp_path / "runs" / "<b>run & 1"
    (run / "logs").mkdir(parents=True)
    (run / "gallery").mkdir()
    (run / "logs" / "metrics.csv").write_text(CURVES)
    (run / "metrics.json").write_text(json.dumps({"J&F-Mean": 0.625, "frames_per_second": 3.0, "J-Mean": None}))
    (run / "per_sequence.csv").write_text("sequence,object,J&F-Mean\ndog,1,0.2\ndog,2,0.4\ncow,1,nan\n")
    Image.fromarray(np.full((900, 3000, 3), 200, np.uint8)).save(run / "gallery" / "dog.png")
    return tmp_path / "runs"


def test_a_run_folder_is_read_as_it_was_logged(folder: Path) -> None:
    [run] = read_runs(folder)
    assert (run.name, run.group) == ("<b>run & 1", "runs")
    steps, losses = run.history["train/loss"]
    assert steps.tolist() == [0, 1, 2]
    assert losses.tolist() == [2.0, 1.0, 0.5]
    assert run.named("lr-*") == ["lr-Adam"]
    assert run.summary == {"test/J&F-Mean": 0.625, "test/frames_per_second": 3.0}
    assert run.sequences == {"dog": pytest.approx(0.3)}
    assert list(run.pictures) == ["dog"]


def test_jobs_of_a_sweep_go_by_what_they_vary(folder: Path) -> None:
    [run] = folder.iterdir()
    (run / "job.json").write_text(json.dumps({"number": 1, "choices": ["seed=1", "engine.size=60"]}))
    assert read_runs(folder)[0].name == "<b>run & 1: seed=1 engine.size=60"


def test_studies_are_rows_and_curves() -> None:
    runs = read_runs(EXPERIMENTS)
    by_name = {run.name: run for run in runs}
    assert len(by_name["scratch_stcn"].history["val/J&F-Mean"][0]) >= 2
    assert by_name["stcn by scratch_stcn, 240p"].summary["test/J&F-Mean"] == pytest.approx(0.608, abs=1e-3)
    assert len(by_name["stcn by scratch_stcn, 240p"].sequences) == 20


def test_the_page_needs_nothing_else_and_closes_its_tags(folder: Path) -> None:
    text = page_of([*read_runs(folder), *read_runs(EXPERIMENTS)])
    tags = Tags(text)
    assert not tags.open
    assert all(place.startswith(("data:", "#")) for place in tags.places)
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text)
    assert len(text) < 4_000_000
    assert {f"#{view.name.lower()}" for view in VIEWS} <= set(tags.places)


def test_names_are_text_and_never_tags(folder: Path) -> None:
    text = page_of(read_runs(folder))
    assert "<b>run" not in text
    assert "&lt;b&gt;run &amp; 1" in text


def test_every_kind_of_panel_shows_its_numbers(folder: Path) -> None:
    text = page_of(read_runs(folder))
    assert '<div class="number">62.5 <small>J&amp;F</small>' in text
    assert "<td>dog</td>" in text
    assert "--w:30%" in text
    assert text.count("<polyline") == 4
    assert "Nothing was logged for" in text
    assert "Gradient norm" in text.split("Nothing was logged for")[1].split("</p>")[0]
    assert "Learning rate" not in text.split("Nothing was logged for")[1].split("</p>")[0]


def test_a_study_of_other_metrics_has_its_table_too() -> None:
    text = page_of([StudyRun("a row", "a study", summary={"test/end_point": 2.0})])
    assert "<th>end point</th>" in text
    assert "<td>a row</td><td>2.00</td>" in text


def test_the_same_runs_give_the_same_page(folder: Path) -> None:
    assert page_of(read_runs(folder)) == page_of(read_runs(folder))


def test_a_curve_runs_through_its_values() -> None:
    drawn = lines([Line("one", 0, np.array([0.0, 10.0]), np.array([1.0, 100.0]))], log=True)
    [points] = re.findall(r'points="([^"]*)"', drawn)
    (x0, y0), (x1, y1) = (map(float, pair.split(",")) for pair in points.split())
    assert x0 < x1
    assert y0 > y1, "larger values lie higher"
    axis = Axis(1.0, 100.0, 0.0, 2.0, log=True)
    assert (axis.at(10.0), axis.ticks()) == (1.0, [1.0, 10.0, 100.0])
    assert nice(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_values_that_are_equal_or_not_positive_are_drawn_too() -> None:
    for values in ([3.0, 3.0], [0.0, 0.0], [-1.0, 2.0]):
        drawn = lines([Line("one", 0, np.array([5.0, 5.0]), np.array(values))], log=True)
        assert "nan" not in drawn
        assert "inf" not in drawn


def test_labels_of_bubbles_do_not_lie_on_each_other() -> None:
    crowd = [Bubble(f"a label of some length {i}", 0, 5.0, 50.0, 1.0) for i in range(30)]
    drawn = bubbles([*crowd, Bubble("far", 1, 9.0, 90.0, 0.2)], "frames/s", "J&F")
    places = [(float(x), float(y)) for x, y in re.findall(r'class="label" x="([\d.]+)" y="([\d.]+)"', drawn)]
    assert 2 <= len(places) < 31
    assert len(set(places)) == len(places)
    assert drawn.count("<title>") == 31


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("logs/metrics.csv", "loss\n1\n", "not the curves"),
        ("logs/metrics.csv", "step,train/loss\n0,much\n", "not the curves"),
        ("metrics.json", "[1]", "expected names and values"),
        ("metrics.json", "{", "cannot be read"),
        ("per_sequence.csv", "name\ndog\n", "no scores"),
        ("gallery/dog.png", "no picture", "no picture"),
    ],
)
def test_a_damaged_file_has_one_line(folder: Path, name: str, content: str, said: str) -> None:
    [run] = folder.iterdir()
    (run / name).write_text(content)
    with pytest.raises(DataError, match=said) as caught:
        page_of(read_runs(folder))
    assert name.rpartition("/")[2] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_that_are_being_written_are_left_out(folder: Path) -> None:
    [run] = folder.iterdir()
    with (run / "logs" / "metrics.csv").open("a") as file:
        file.write("3,0.4")
    assert read_runs(folder)[0].history["train/loss"][0].tolist() == [0, 1, 2]


def test_the_program_writes_the_page_or_says_what_is_wrong(run: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "a page"
    assert run("dashboard", f"runs={folder}", f"output={output}") == ""
    assert "vos-lab" in (output / "index.html").read_text()
    assert run("dashboard", f"runs=[{folder},{EXPERIMENTS}]", f"output={output}") == ""
    assert "scratch_stcn" in (output / "index.html").read_text()
    assert "no such folder of runs" in run("dashboard", f"runs={tmp_path}/none", f"output={output}")
    assert "holds no run" in run("dashboard", f"runs={output}", f"output={output}")
    assert "must name a folder" in run("dashboard", "runs=[]", f"output={output}")


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        read_runs(tmp_path)
