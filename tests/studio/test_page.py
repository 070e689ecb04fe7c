"""The page in a browser, on real clips. `CHROMIUM` names the browser; by default it is Debian's."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.proposals import iou
from tests.studio.simulated_user import next_correction
from voslab.data.sources.davis import davis
from voslab.data.video_sequence import VideoSequence

ROOT = Path(__file__).resolve().parents[2]
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium, or set CHROMIUM"),
]
MINUTE = 60_000
PIXELS = "view => view.toDataURL()"


@contextmanager
def served(clip: Path, output: Path, *more: str) -> Iterator[str]:
    """Address of the page of a clip; the program is stopped at the end."""
    options = [f"video={clip}", f"output={output}", "port=0", "browser=false", *(more or ["engine.size=240"])]
    command = [sys.executable, "-m", "src.annotate", f"hydra.run.dir={output}", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        try:
            line = next((line for line in program.stdout if line.startswith("page: http://127.0.0.1:")), None)
            assert line is not None, program.stderr.read()  # it ended
            yield line.removeprefix("page: ").strip()
        finally:
            program.send_signal(signal.SIGINT)
            _, error = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "Traceback" not in error


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(MINUTE)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert not errors


def opened(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("body[data-ready=true]").wait_for()


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Position in the window of a pixel of the video."""
    view = page.locator("#view")
    place, box = view.evaluate("view => ({...view.dataset})"), view.bounding_box()
    assert box is not None
    zoom = float(place["zoom"])
    return box["x"] + float(place["x"]) + (x + 0.5) * zoom, box["y"] + float(place["y"]) + (y + 0.5) * zoom


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*on_screen(page, *start))
    page.mouse.down()
    page.mouse.move(*on_screen(page, *end), steps=8)
    page.mouse.up()


def saved(page: Page, frame: int) -> None:
    expect(page.locator("#status")).to_have_text(f"mask of frame {frame} saved", timeout=MINUTE)


def mask(folder: Path, frame: int) -> NDArray[np.bool_]:
    return np.array(Image.open(folder / f"{frame:05d}.png")) == 1


def annotate_first_frame(page: Page, truth: NDArray[np.bool_], given: Path) -> float:
    """A box, then up to five clicks and strokes until the mask is good; returns its IoU."""
    rows, columns = np.nonzero(truth)
    page.keyboard.press("x")
    drag(page, (columns.min(), rows.min()), (columns.max(), rows.max()))
    saved(page, 0)
    for _ in range(5):
        if iou(mask(given, 0), truth) >= 0.8:
            break
        before = (given / "00000.png").stat().st_mtime_ns
        correct(page, mask(given, 0), truth)
        page.wait_for_timeout(100)
        saved(page, 0)
        assert (given / "00000.png").stat().st_mtime_ns > before
    return iou(mask(given, 0), truth)


def correct(page: Page, found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
    correction = next_correction(found, truth)
    points = [on_screen(page, *point) for point in correction.points]
    if len(points) == 1:
        page.keyboard.press("c")
        page.mouse.click(*points[0], button="left" if correction.positive else "right")
        return
    page.locator("#brush").fill(str(correction.diameter))
    page.keyboard.press("b" if correction.positive else "e")
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def propagated(page: Page, direction: str) -> None:
    page.locator(f"[data-direction={direction}]").click()
    expect(page.locator("#status")).to_have_text("propagated", timeout=2 * MINUTE)


def test_a_clip_is_annotated_corrected_exported_and_found_again(page: Page, vos_data: Path, tmp_path: Path) -> None:
    video = next(one for one in davis(vos_data / "DAVIS", year=2016, split="train") if one.name == "bear")
    truth = video.labels(0)
    assert truth is not None
    clip, session = vos_data / "DAVIS" / "JPEGImages" / "480p" / "bear", tmp_path / "bear"
    with served(clip, tmp_path) as url:
        opened(page, url)
        assert annotate_first_frame(page, truth == 1, session / "given") >= 0.8
        page.fill("#end", "4")
        propagated(page, "forward")
        assert sorted(path.name for path in (session / "predicted").iterdir()) == [f"0000{i}.png" for i in range(5)]
        before = {i: mask(session / "predicted", i) for i in range(5)}
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#position")).to_have_text("frame 2 of 81")
        page.keyboard.press("b")
        drag(page, (600, 60), (680, 60))  # far from the bear
        saved(page, 2)
        corrected = mask(session / "given", 2)
        assert corrected[60, 600:680].all()
        assert (corrected & before[2]).sum() == before[2].sum()
        page.fill("#start", "2")
        propagated(page, "forward")
        assert np.array_equal(mask(session / "predicted", 1), before[1])
        assert np.array_equal(mask(session / "predicted", 2), corrected)
        assert not np.array_equal(mask(session / "predicted", 3), before[3])
        page.keyboard.press("Control+z")
        expect(page.locator("#status")).to_have_text("mask of frame 2 discarded")
        expect(page.locator("#origin")).to_contain_text("predicted mask")
        assert not (session / "given" / "00002.png").exists()
        page.keyboard.press("Control+Shift+z")
        saved(page, 2)
        assert np.array_equal(mask(session / "given", 2), corrected)
        page.locator("#export").click()
        expect(page.locator("#paths li")).to_have_text([str(session / "export" / "masks/")])
        exported = {path.name: path.read_bytes() for path in (session / "export" / "masks").iterdir()}
        assert sorted(exported) == [f"0000{i}.png" for i in range(5)]
        assert np.array_equal(mask(session / "export" / "masks", 3), mask(session / "predicted", 3))
    with served(clip, tmp_path) as url:
        opened(page, url)
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        expect(page.locator("#origin")).to_have_text("mask made by hand")
        page.locator("#export").click()
        expect(page.locator("#status")).to_have_text("exported", timeout=MINUTE)
        assert exported == {path.name: path.read_bytes() for path in (session / "export" / "masks").iterdir()}


def sequence(root: Path, split: str, name: str | None = None) -> VideoSequence:
    """A sequence of DAVIS 2016; without a name, one that is drawn."""
    found = davis(root / "DAVIS", year=2016, split=split)
    if name is None:
        name = random.Random(0).choice([one.name for one in found if one.name != "bear"])
    return next(one for one in found if one.name == name)


@pytest.mark.parametrize(("split", "name"), [("val", "camel"), ("train", None)])
def test_a_box_and_five_corrections_give_a_good_mask(
    page: Page, vos_data: Path, tmp_path: Path, split: str, name: str | None
) -> None:
    video = sequence(vos_data, split, name)
    labels = video.labels(0)
    assert labels is not None
    with served(vos_data / "DAVIS" / "JPEGImages" / "480p" / video.name, tmp_path) as url:
        opened(page, url)
        assert annotate_first_frame(page, labels == 1, tmp_path / video.name / "given") >= 0.8


def test_two_models_are_compared_and_what_one_computes_is_shown(page: Page, clip: Path, tmp_path: Path) -> None:
    options = ["model=gam", "compare.model=copy_first", "engine.size=40"]
    output = tmp_path / "sessions"
    with served(clip, output, *options) as url:
        opened(page, url)
        elements = page.locator("*").count()
        page.keyboard.press("b")
        drag(page, (12, 16), (18, 16))
        saved(page, 0)
        page.locator("#record").check()
        propagated(page, "forward")
        page.locator("#second-model").check()
        propagated(page, "forward")
        expect(page.locator("#agreement")).to_contain_text("agreement in this frame: IoU")
        page.locator("#compare").select_option("side")
        expect(page.locator("#view")).to_have_attribute("data-mode", "side")
        page.keyboard.press("d")
        page.locator("#compare").select_option("wipe")
        page.locator("#wipe").fill("20")
        page.locator("#compare").select_option("off")
        shown = page.locator("#view").evaluate(PIXELS)
        page.locator("#internals").select_option("cam")
        page.wait_for_function(f"before => ({PIXELS})(document.querySelector('#view')) !== before", arg=shown)
        # What the page holds does not grow with the number of frames.
        assert page.locator("*").count() == elements
    with served(clip, output, "engine.size=40") as url:
        opened(page, url)
        expect(page.locator("#second-name")).to_have_text("copy_first")
        expect(page.locator("#with-second")).to_be_hidden()
        expect(page.locator("#agreement")).to_contain_text("IoU")


def test_tools_of_the_hand_and_a_phone(page: Page, vos_data: Path, tmp_path: Path) -> None:
    with served(vos_data / "DAVIS" / "JPEGImages" / "480p" / "bear", tmp_path) as url:
        opened(page, url)
        given = tmp_path / "bear" / "given"
        page.keyboard.press("p")
        for corner in ((100, 100), (300, 100), (300, 200), (100, 200)):
            page.mouse.click(*on_screen(page, *corner))
        page.keyboard.press("Enter")
        saved(page, 0)
        polygon = mask(given, 0)
        assert abs(int(polygon.sum()) - 200 * 100) < 700
        page.keyboard.press("e")
        drag(page, (100, 150), (300, 150))
        saved(page, 0)
        assert not mask(given, 0)[150, 120:280].any()
        page.get_by_text("Add object").click()
        page.keyboard.press("b")
        drag(page, (400, 300), (500, 300))
        saved(page, 0)
        assert (np.array(Image.open(given / "00000.png")) == 2).sum() > 1000
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        page.set_viewport_size({"width": 1280, "height": 800})
