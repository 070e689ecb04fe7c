"""Tests the content of the dashboard page, and that it works offline."""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from plotly.offline import get_plotlyjs

from tests.conftest import Run
from voslab.core import ConfigError, DataError
from voslab.dashboard.page import CONFIG, page_of
from voslab.dashboard.plotly_figures import Curve, bar_plot, labelled_points, line_plot, scatter_plot, sequence_plot
from voslab.dashboard.runs import Run as StudyRun
from voslab.dashboard.runs import read_runs, shorten
from voslab.dashboard.views import VIEWS

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
CURVES = (
    "step,train/loss,val/J&F-Mean,lr-Adam,val/sequences/dog\n0,2.0,,0.1,\n1,1.0,,0.1,\n1,,0.5,,0.25\n2,0.5,,0.01,\n"
)
VOID = {"meta", "link", "img", "input"}


def markup(text: str) -> str:
    """Return a page without plotly.js."""
    assert text.count(get_plotlyjs()) == 1
    return text.replace(get_plotlyjs(), "")


def panel(text: str, title: str) -> str:
    """Return the HTML of the panel with a title."""
    [found] = re.findall(
        rf'<div class="card[^"]*"><h3>{re.escape(title)}<.*?(?=<div class="card|<h2>|</section>)', text, re.S
    )
    return str(found)


class Tags(HTMLParser):
    """Checks that tags are closed, and collects the URLs of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.urls: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that contains one run with the files of `src.train`."""
    run = tmp_path / "runs" / "<b>run & 1"
    (run / "logs").mkdir(parents=True)
    (run / "gallery").mkdir()
    (run / "logs" / "metrics.csv").write_text(CURVES)
    (run / "metrics.json").write_text(json.dumps({"J&F-Mean": 0.625, "frames_per_second": 3.0, "J-Mean": None}))
    (run / "per_sequence.csv").write_text("sequence,object,J&F-Mean\ndog,1,0.2\ndog,2,0.4\ncow,1,nan\n")
    Image.fromarray(np.full((900, 3000, 3), 200, np.uint8)).save(run / "gallery" / "dog.png")
    return tmp_path / "runs"


def test_reads_a_run_folder(folder: Path) -> None:
    [run] = read_runs(folder)
    assert (run.name, run.group) == ("<b>run & 1", "runs")
    steps, losses = run.history["train/loss"]
    assert steps.tolist() == [0, 1, 2]
    assert losses.tolist() == [2.0, 1.0, 0.5]
    assert run.named("lr-*") == ["lr-Adam"]
    assert run.summary == {"test/J&F-Mean": 0.625, "test/frames_per_second": 3.0}
    assert run.sequences == {"dog": pytest.approx(0.3)}
    assert list(run.images) == ["dog"]


def test_sweep_jobs_are_named_by_the_overrides_that_differ(folder: Path) -> None:
    [run] = folder.iterdir()
    (run / "job.json").write_text(json.dumps({"number": 1, "choices": ["seed=1", "engine.size=60"]}))
    assert read_runs(folder)[0].name == "<b>run & 1: seed=1_size=60"
    other = folder / "other"
    other.mkdir()
    (other / "metrics.json").write_text("{}")
    (other / "job.json").write_text(json.dumps({"number": 2, "choices": ["seed=2", "engine.size=60"]}))
    assert [run.name for run in read_runs(folder)] == ["<b>run & 1: seed=1", "other: seed=2"]


def test_reads_rows_and_curves_of_studies() -> None:
    runs = read_runs(EXPERIMENTS)
    by_name = {run.name: run for run in runs}
    assert len(by_name["scratch_stcn"].history["val/J&F-Mean"][0]) >= 2
    assert by_name["stcn by scratch_stcn, 240p"].summary["test/J&F-Mean"] == pytest.approx(0.608, abs=1e-3)
    assert len(by_name["stcn by scratch_stcn, 240p"].sequences) == 20


def test_the_page_works_offline_and_closes_its_tags(folder: Path) -> None:
    text = markup(page_of([*read_runs(folder), *read_runs(EXPERIMENTS)]))
    tags = Tags(text)
    assert not tags.open
    assert all(url.startswith(("data:", "#")) for url in tags.urls)
    assert not re.search(r"@import|url\(|(https?|wss?):(//|\\u002f)|\bfetch\(|sendBeacon|XMLHttpRequest", text)
    assert len(text) < 4_500_000
    assert {f"#{view.name.lower()}" for view in VIEWS} <= set(tags.urls)


def test_charts_cannot_be_sent_to_a_service(folder: Path) -> None:
    assert (CONFIG["showSendToCloud"], CONFIG["displaylogo"]) == (False, False)
    text = markup(page_of(read_runs(folder)))
    assert text.count('"showSendToCloud": false') == text.count("Plotly.newPlot(") > 0


def test_every_group_is_an_option_of_the_picker(folder: Path) -> None:
    text = markup(page_of([*read_runs(folder), StudyRun("row", "a <study>", summary={"test/J&F-Mean": 0.5})]))
    options = ["All 2 groups", "runs", "a &lt;study&gt;"]
    assert re.findall(r'<option value="\d">(.*?)</option>', text) == options
    assert re.findall(r'<template id="section-(\d)">', text) == ["0", "1", "2"]
    assert re.findall(r"<option.*?>(.*?)</option>", markup(page_of(read_runs(folder)))) == ["runs"]


def test_names_are_escaped(folder: Path) -> None:
    text = markup(page_of(read_runs(folder)))
    assert "<b>run" not in text
    assert "&lt;b&gt;run &amp; 1" in text
    # plotly renders tags in names; in JSON, an escaped name has the entity of each bracket.
    assert '"name":"&lt;b&gt;run &amp; 1"' in text
    assert "\\u003cb\\u003erun" not in text


def test_every_kind_of_panel_shows_its_numbers(folder: Path) -> None:
    text = markup(page_of(read_runs(folder)))
    assert '<div class="number">62.5 <small>J&amp;F</small>' in text
    loss = panel(text, "Training loss")
    assert '"x":[0.0,1.0,2.0],"y":[2.0,1.0,0.5]' in loss
    assert '"type":"log"' in loss
    assert '"y":[50.0]' in panel(text, "Validation J&amp;F")
    scatter = panel(text, "J&amp;F against speed")
    assert '"x":[3.0],"y":[62.5]' in scatter
    assert '"text":["62.5"]' in panel(text, "J&amp;F")
    assert '"text":["3.0"]' in panel(text, "Frames per second")
    assert "<td>62.5</td>" in panel(text, "All numbers")
    sequences = panel(text, "J&amp;F per sequence")
    assert '"x":["dog"],"y":[30.0]' in sequences
    assert "<td>dog</td><td>30.0</td>" in sequences
    assert '<img alt="dog" src="data:image/webp;base64,' in text
    absent = text.split("Nothing was logged for")[1].split("</p>")[0]
    assert "Gradient norm" in absent
    assert "Learning rate" not in absent


def test_a_study_without_the_usual_metrics_has_a_table() -> None:
    text = page_of([StudyRun("a row", "a study", summary={"test/end_point": 2.0})])
    assert "<th>end point</th>" in text
    assert "<td>a row</td><td>2.00</td>" in text


def test_the_same_runs_give_the_same_page(folder: Path) -> None:
    text = page_of(read_runs(folder))
    assert text == page_of(read_runs(folder))
    ids = re.findall(r'<div id="(plot-\d+)"', text)
    assert ids == [f"plot-{number}" for number in range(len(ids))]


@pytest.mark.parametrize("values", [[3.0, 3.0], [0.0, 0.0], [-1.0, 2.0]])
def test_a_logarithmic_axis_needs_positive_values(values: list[float]) -> None:
    run = StudyRun("one", "group", history={"train/loss": (np.array([5.0, 5.0]), np.array(values))})
    figure = line_plot([Curve(run, "train/loss", "one", 0)], log=True)
    assert list(figure.data[0].y) == values
    assert figure.layout.yaxis.type == ("log" if min(values) > 0 else None)


def test_labels_of_bubbles_do_not_overlap() -> None:
    crowd = [(5.0 + 0.01 * i, 50.0 - 0.01 * i) for i in range(30)]
    assert labelled_points([*crowd, (9.0, 10.0), (1.0, 1.0)]) == [0, 30]
    assert labelled_points([(1.0, 1.0)]) == [0]
    runs = [StudyRun(f"run {i}", "group", summary={"x": x, "y": y}) for i, (x, y) in enumerate(crowd)]
    [trace] = scatter_plot(runs, "x", "y", "z").data
    assert len(trace.x) == 30
    assert trace.customdata[3][0] == "run 3"


def test_bars_of_equal_names_are_separate() -> None:
    runs = [StudyRun("base", "group", summary={"test/J&F-Mean": score}) for score in (0.5, 0.25)]
    figure = bar_plot(runs, "test/J&F-Mean")
    assert (list(figure.data[0].y), list(figure.data[0].x)) == ([0, 1], [50.0, 25.0])
    assert list(figure.layout.yaxis.ticktext) == ["base", "base"]


def test_only_the_first_runs_of_a_chart_of_sequences_are_visible() -> None:
    runs = [StudyRun(f"run {i}", "group", sequences={"dog": 0.5}) for i in range(7)]
    visible = [trace.visible for trace in sequence_plot(runs, ["dog"]).data]
    assert visible == [True] * 5 + ["legendonly"] * 2


def test_long_names_are_shortened_in_charts() -> None:
    name = f"python -m src.evaluate {'model.size=1 ' * 10}"
    assert len(shorten(name)) <= 48
    assert shorten("short") == "short"
    figure = bar_plot([StudyRun(name, "group", summary={"test/J&F-Mean": 0.5})], "test/J&F-Mean")
    assert list(figure.layout.yaxis.ticktext) == [shorten(name)]
    assert list(figure.data[0].hovertext) == [name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("logs/metrics.csv", "loss\n1\n", "not the curves"),
        ("logs/metrics.csv", "step,train/loss\n0,much\n", "not the curves"),
        ("metrics.json", "[1]", "expected a JSON object"),
        ("metrics.json", "{", "cannot be read"),
        ("per_sequence.csv", "name\ndog\n", "not the scores"),
        ("gallery/dog.png", "text", "not an image, or a damaged one"),
        ("metrics.json", '{"a":' * 2000 + "1" + "}" * 2000, "nested too deeply"),
        ("metrics.json", '{"a":' * 200_000, "nested too deeply"),
        ("metrics.json", f'{{"J-Mean": 1{"0" * 400}}}', "'J-Mean' is no number that can be shown"),
        ("metrics.json", f'{{"J-Mean": 1{"0" * 6000}}}', "cannot be read"),
        ("metrics.json", '{"J-Mean": NaN}', "NaN is not a number"),
    ],
)
def test_a_damaged_file_is_reported_in_one_line(folder: Path, name: str, content: str, message: str) -> None:
    [run] = folder.iterdir()
    (run / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        page_of(read_runs(folder))
    assert name.rpartition("/")[2] in str(caught.value)
    assert "\n" not in str(caught.value)


def image_bytes(kind: str) -> bytes:
    """Return a hostile image file."""
    file = io.BytesIO()
    grey = Image.fromarray(np.zeros((4, 4), np.uint8))
    if kind == "eps":
        grey.save(file, "EPS")
        return file.getvalue()
    text = PngInfo()
    if kind == "text":
        text.add_text("a", "0" * (80 << 20), zip=True)
    grey.save(file, "PNG", pnginfo=text)
    content = bytearray(file.getvalue())
    if kind == "size":
        content[16:24] = struct.pack(">II", 60_000, 60_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("eps", "not an image"), ("text", "dog.png: "), ("size", "more than .* pixels, too many")],
)
def test_a_hostile_image_is_reported_in_one_line(folder: Path, kind: str, message: str) -> None:
    [run] = folder.iterdir()
    (run / "gallery" / "dog.png").write_bytes(image_bytes(kind))
    with pytest.raises(DataError, match=message) as caught:
        page_of(read_runs(folder))
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite_are_left_out_of_curves(folder: Path) -> None:
    [run] = folder.iterdir()
    with (run / "logs" / "metrics.csv").open("a") as file:
        file.write("3,inf,nan,0.1,\n4,0.25,,1e999,\ninf,1,,,\n")
    [read] = read_runs(folder)
    steps, losses = read.history["train/loss"]
    assert (steps.tolist(), losses.tolist()) == ([0, 1, 2, 4], [2, 1, 0.5, 0.25])
    assert read.history["lr-Adam"][0].tolist() == [0, 1, 2, 3]
    assert "Infinity" not in markup(page_of([read]))


def test_incomplete_rows_are_ignored(folder: Path) -> None:
    [run] = folder.iterdir()
    with (run / "logs" / "metrics.csv").open("a") as file:
        file.write("3,0.4")
    assert read_runs(folder)[0].history["train/loss"][0].tolist() == [0, 1, 2]


def test_the_program_writes_the_page_or_reports_an_error(run: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "a page"
    assert run("dashboard", f"runs={folder}", f"output={output}") == ""
    assert "vos-lab" in (output / "index.html").read_text()
    assert run("dashboard", f"runs=[{folder},{EXPERIMENTS}]", f"output={output}") == ""
    assert "scratch_stcn" in (output / "index.html").read_text()
    assert "no such folder of runs" in run("dashboard", f"runs={tmp_path}/none", f"output={output}")
    assert "contains no run" in run("dashboard", f"runs={output}", f"output={output}")
    assert "must be a folder" in run("dashboard", "runs=[]", f"output={output}")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains no run"):
        read_runs(tmp_path)


def test_without_plotly_the_program_reports_one_line(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("plotly", "voslab.dashboard.p"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    message = run("dashboard", f"runs={folder}", f"output={tmp_path / 'page'}")
    assert message == "the dashboard needs plotly: pip install 'voslab[dashboard]'"
    assert not (tmp_path / "page").exists()
