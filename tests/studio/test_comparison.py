"""A second model beside the first one, without a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.studio.conftest import FRAMES, SIZE, Connect, no_export
from tests.studio.test_server import add_objects, finished, ids, png, square
from voslab import Predictor
from voslab.studio.comparison import Comparison, agreement
from voslab.studio.project import Project
from voslab.studio.proposer import GrabCut
from voslab.studio.workspace import Studio

FORWARD = {"direction": "forward"}


def compared(clip: Path, folder: Path, second: bool = True) -> Studio:
    """A session with a second model, or one that finds what a second model stored."""
    session = Predictor.load(model="copy_first").session(clip, probabilities=True)
    other = Predictor.load(model="copy_first").session(clip) if second else None
    found = Comparison.of_model(folder, "copy", "", SIZE) if second else Comparison.latest(folder, SIZE)
    project = Project(folder, clip, SIZE)
    return Studio(session, project, GrabCut(), no_export, ["masks"], "a clip", "copy_first", other, found)


@pytest.fixture
def client(clip: Path, tmp_path: Path, connect: Connect) -> TestClient:
    client = connect(compared(clip, tmp_path / "session"))
    add_objects(client, 1, 2)
    client.put("/api/masks/0", content=png(square()))
    client.post("/api/propagation", json={**FORWARD, "second": True})
    finished(client)
    return client


def test_the_second_model_has_masks_of_its_own(client: TestClient) -> None:
    state = client.get("/api/state").json()
    assert state["predicted"] == []
    assert state["compared"]["predicted"] == list(range(FRAMES))
    assert state["compared"]["ready"]
    np.testing.assert_array_equal(ids(client.get("/api/second/5").content), square())
    assert client.get("/api/masks/5").status_code == 204
    assert client.get("/api/second/99").status_code == 204


def test_agreement_follows_the_masks_of_both(client: TestClient) -> None:
    assert client.get("/api/state").json()["compared"]["agreement"] == [[0, 1.0]]
    client.put("/api/masks/4", content=png(square(15)))  # half of the square is 14 columns to the right
    client.post("/api/propagation", json=FORWARD)
    updates = {frame: (value, agreed) for frame, value, agreed in finished(client)["updates"][FRAMES:]}
    assert [updates[frame][1] for frame in (0, 3)] == [1.0, 1.0]
    assert updates[5] == (0.0, pytest.approx(7 / 21))
    assert client.put("/api/masks/5", content=png(square())).json() == {"agreement": 1.0}
    assert client.delete("/api/masks/5").json() == {"agreement": pytest.approx(7 / 21)}
    found = dict(client.get("/api/state").json()["compared"]["agreement"])
    assert found[5] == pytest.approx(7 / 21)


def test_a_mask_that_is_discarded_has_no_agreement_after_a_restart(
    client: TestClient, clip: Path, tmp_path: Path, connect: Connect
) -> None:
    assert client.delete("/api/masks/0").json() == {"agreement": None}
    again = connect(compared(clip, tmp_path / "session"))
    assert again.get("/api/state").json()["compared"]["agreement"] == []


def test_a_restart_finds_the_comparison_with_and_without_the_model(
    client: TestClient, clip: Path, tmp_path: Path, connect: Connect
) -> None:
    before = client.get("/api/state").json()["compared"]
    assert connect(compared(clip, tmp_path / "session")).get("/api/state").json()["compared"] == before
    alone = connect(compared(clip, tmp_path / "session", second=False))
    assert alone.get("/api/state").json()["compared"] == {**before, "ready": False}
    np.testing.assert_array_equal(ids(alone.get("/api/second/5").content), square())
    answer = alone.post("/api/propagation", json={**FORWARD, "second": True})
    assert answer.status_code == 400
    assert "start the program with compare.checkpoint=FILE" in answer.json()["error"]


def test_models_of_the_same_name_have_folders_of_their_own(tmp_path: Path) -> None:
    one, other = (Comparison.of_model(tmp_path, "stcn, last.ckpt", f"/{run}/last.ckpt", SIZE) for run in "ab")
    assert one.folder != other.folder
    escaping = Comparison.of_model(tmp_path, "../../x", "", SIZE)
    assert escaping.folder.parent == tmp_path / "compared"


def test_agreement_is_the_mean_iou_over_objects() -> None:
    first, second = np.array([[1, 1, 0, 2, 0, 0]]), np.array([[1, 0, 0, 2, 3, 0]])
    assert agreement(first, second) == pytest.approx((0.5 + 1 + 0) / 3)
    assert agreement(first * 0, second * 0) == 1


@pytest.mark.parametrize("path", ["/api/second/-1", "/api/second/..%2fsession", "/api/second/0%2f..%2f..%2fstate"])
def test_only_masks_are_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.get("/api/second/0", headers={"origin": "http://evil.example"}).status_code == 403
