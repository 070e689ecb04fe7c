"""Images of what a method computes inside, without a browser."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from tests.studio.conftest import FRAMES, SIZE, Connect, images
from tests.studio.test_server import add_objects, finished, png, square
from voslab import Predictor
from voslab.cli.annotate_session import internals
from voslab.engine import Prediction
from voslab.studio.internals import Internals
from voslab.studio.workspace import Studio


class Numbers(AbstractContextManager["Numbers"]):
    """Draws the number of the frame; frame 0 has nothing to show."""

    opened = 0

    def __enter__(self) -> Numbers:
        Numbers.opened += 1
        return self

    def __exit__(self, *error: object) -> None:
        Numbers.opened -= 1

    def draw(self, prediction: Prediction) -> Mapping[str, NDArray[np.uint8]]:
        image = np.full((*SIZE, 3), 20 * prediction.index, np.uint8)
        return {"motion": image, "other": image} if prediction.index else {}


@pytest.fixture
def client(studio: Studio, connect: Connect) -> TestClient:
    folder = studio.project.folder / "internals"
    client = connect(replace(studio, internals=Internals(folder, ["motion"], lambda _: Numbers())))
    add_objects(client, 1)
    client.put("/api/masks/0", content=png(square()))
    return client


def test_internals_are_stored_where_they_are_asked_for(client: TestClient, studio: Studio) -> None:
    assert client.get("/api/state").json()["internals"] == ["motion"]
    client.post("/api/propagation", json={"direction": "forward"})
    finished(client)
    assert client.get("/api/internals/motion/3").status_code == 204
    client.post("/api/propagation", json={"direction": "forward", "internals": True})
    assert finished(client)["propagation"]["error"] == ""
    answer = client.get("/api/internals/motion/3")
    assert answer.headers["content-type"] == "image/jpeg"
    assert abs(int(np.array(Image.open(io.BytesIO(answer.content))).mean()) - 60) <= 2
    assert client.get("/api/internals/motion/0").status_code == 204
    stored = sorted(path.name for path in (studio.project.folder / "internals" / "motion").iterdir())
    assert stored == [f"{frame:05d}.jpg" for frame in range(1, FRAMES)]
    assert not (studio.project.folder / "internals" / "other").exists()
    assert Numbers.opened == 0


@pytest.mark.parametrize("options", [{"direction": "backward"}, {"direction": "both"}, {"second": True}])
def test_internals_are_recorded_forward_only(client: TestClient, options: dict[str, object]) -> None:
    values = {"direction": "forward", "internals": True, **options}
    assert client.post("/api/propagation", json=values).status_code == 400


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..", "predicted", "motion%2f..%2f..%2fgiven"])
def test_only_declared_internals_are_served(client: TestClient, name: str) -> None:
    answer = client.get(f"/api/internals/{name}/0")
    assert answer.status_code in {400, 404}
    assert client.get("/api/internals/motion/1", headers={"origin": "http://evil.example"}).status_code == 403


def test_a_method_without_internals_says_so(studio: Studio, connect: Connect) -> None:
    client = connect(studio)
    assert client.get("/api/state").json()["internals"] == []
    assert client.get("/api/internals/motion/1").status_code == 400


def test_feature_maps_of_a_method_are_drawn_over_the_frames(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Predictor.load(model="gam", size=32).model
    found = internals(model, tmp_path, SIZE)
    assert found is not None
    assert set(found.names) == set(model.segmenter.maps)
    masks = {0: np.where(square() > 0, 1, 0)}
    predictions = Predictor(model).segment(images()[:3], masks)
    assert [each.index for each in found.recorded(predictions, masks)] == [0, 1, 2]
    name = found.names[0]
    content = found.jpeg(name, 2)
    assert content is not None
    drawn = np.array(Image.open(io.BytesIO(content))).astype(int)
    assert drawn.shape == (*SIZE, 3)
    assert np.ptp(drawn, axis=-1).max() > 20  # the frames are grey, the map is not
    assert internals(Predictor.load(model="copy_first").model, tmp_path, SIZE) is None
