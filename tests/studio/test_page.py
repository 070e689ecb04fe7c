"""The page in a browser, on real clips. `CHROMIUM` names the browser; by default it is Debian's."""

from __future__ import annotations

import os
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

from benchmarks.proposals import iou, middle_of_largest_error
from voslab.data.sources.davis import davis

ROOT = Path(__file__).resolve().parents[2]
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium, or set CHROMIUM"),
]
MINUTE = 60_000


@contextmanager
def served(clip: Path, output: Path) -> Iterator[str]:
    """Address of the page of a clip; the program is stopped at the end."""
    options = [f"video={clip}", f"output={output}", "port=0", "browser=false", "engine.size=240"]
    command = [sys.executable, "-m", "src.annotate", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        lines = [program.stdout.readline() for _ in range(2)]
        try:
            assert lines[1].startswith("page: http://127.0.0.1:"), program.stderr.read()
            yield lines[1].removeprefix("page: ").strip()
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
    """A box, then up to five clicks until the mask is good; returns its IoU."""
    rows, columns = np.nonzero(truth)
    page.keyboard.press("x")
    drag(page, (columns.min(), rows.min()), (columns.max(), rows.max()))
    saved(page, 0)
    page.keyboard.press("c")
    for _ in range(5):
        if iou(mask(given, 0), truth) >= 0.8:
            break
        x, y = middle_of_largest_error(mask(given, 0), truth)
        before = (given / "00000.png").stat().st_mtime_ns
        page.mouse.click(*on_screen(page, x, y), button="left" if truth[y, x] else "right")
        page.wait_for_timeout(100)
        saved(page, 0)
        assert (given / "00000.png").stat().st_mtime_ns > before
    return iou(mask(given, 0), truth)


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


def test_a_box_and_five_clicks_give_a_good_mask(page: Page, vos_data: Path, tmp_path: Path) -> None:
    video = next(one for one in davis(vos_data / "DAVIS", year=2016, split="val") if one.name == "camel")
    labels = video.labels(0)
    assert labels is not None
    with served(vos_data / "DAVIS" / "JPEGImages" / "480p" / video.name, tmp_path) as url:
        opened(page, url)
        assert annotate_first_frame(page, labels == 1, tmp_path / video.name / "given") >= 0.8


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
