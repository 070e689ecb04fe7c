from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from tests.studio.conftest import FRAMES, SIZE, Connect, no_export
from voslab import Predictor
from voslab.core import ConfigError
from voslab.engine import Prediction
from voslab.studio.project import Project
from voslab.studio.proposer import GrabCut
from voslab.studio.workspace import Studio


def png(mask: NDArray[np.integer]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.asarray(mask, np.uint8)).save(content, "PNG")
    return content.getvalue()


def ids(content: bytes) -> NDArray[np.uint8]:
    return np.array(Image.open(io.BytesIO(content)))


def square(left: int = 8, identity: int = 1) -> NDArray[np.uint8]:
    mask = np.zeros(SIZE, np.uint8)
    mask[10:24, left : left + 14] = identity
    return mask


def add_objects(client: TestClient, *numbers: int) -> None:
    objects = [{"id": number, "name": f"object {number}"} for number in numbers]
    assert client.put("/api/objects", json={"objects": objects}).status_code == 200


def finished(client: TestClient) -> dict[str, Any]:
    for _ in range(400):
        answer: dict[str, Any] = client.get("/api/progress").json()
        if not answer["propagation"]["running"]:
            return answer
        time.sleep(0.02)
    raise AssertionError("the propagation goes on")


def test_a_mask_is_made_propagated_corrected_and_exported(client: TestClient, studio: Studio) -> None:
    state = client.get("/api/state").json()
    assert (state["count"], state["size"], state["objects"]) == (FRAMES, list(SIZE), [])
    add_objects(client, 1)
    answer = client.post("/api/proposal", json={"frame": 0, "object": 1, "box": [5, 7, 25, 27]})
    assert (ids(answer.content) > 0).sum() == (square() > 0).sum()
    assert client.put("/api/masks/0", content=png(square())).json() == {"agreement": None}
    assert client.post("/api/propagation", json={"direction": "forward"}).status_code == 200
    answer = finished(client)
    assert [frame for frame, *_ in answer["updates"]] == list(range(FRAMES))
    assert answer["propagation"]["done"] == FRAMES
    np.testing.assert_array_equal(ids(client.get("/api/masks/7").content), square())

    client.put("/api/masks/4", content=png(square(20)))
    client.post("/api/propagation", json={"direction": "forward", "start": 4, "end": 6})
    assert [frame for frame, *_ in finished(client)["updates"][FRAMES:]] == [4, 5, 6]
    lefts = [int(np.nonzero(ids(client.get(f"/api/masks/{frame}").content))[1].min()) for frame in range(FRAMES)]
    assert lefts == [8, 8, 8, 8, 20, 20, 20, 8]
    answer = client.post("/api/export", json={"save": ["masks"]})
    assert answer.json() == {"paths": ["masks"]}


def test_a_session_goes_on_where_it_was_left(client: TestClient, studio: Studio, clip: Path, connect: Connect) -> None:
    add_objects(client, 1, 2)
    both = np.maximum(square(), square(40, 2))
    client.put("/api/masks/3", content=png(both))
    client.post("/api/propagation", json={"direction": "both"})
    finished(client)
    before = client.get("/api/state").json()
    session = Predictor.load(model="copy_first").session(clip, probabilities=True)
    again = connect(
        Studio(session, Project(studio.project.folder, clip, SIZE), GrabCut(), no_export, ["masks"], "", "copy_first")
    )
    after = again.get("/api/state").json()
    for key in ("objects", "given", "predicted", "uncertainty"):
        assert after[key] == before[key]
    assert after["predicted"] == list(range(FRAMES))
    np.testing.assert_array_equal(ids(again.get("/api/masks/6").content), both)
    again.post("/api/propagation", json={"direction": "forward", "start": 3})
    assert finished(again)["propagation"]["error"] == ""


def test_a_propagation_can_be_cancelled_and_only_one_runs(client: TestClient, studio: Studio) -> None:
    add_objects(client, 1)
    client.put("/api/masks/0", content=png(square()))
    predict = studio.project.predict

    def slowly(prediction: Prediction) -> float:
        time.sleep(0.2)
        return predict(prediction)

    studio.project.predict = slowly  # type: ignore[method-assign]
    assert client.post("/api/propagation", json={"direction": "forward"}).status_code == 200
    assert client.post("/api/propagation", json={"direction": "forward"}).status_code == 409
    progress = client.delete("/api/propagation").json()["propagation"]
    assert (progress["running"], progress["cancelled"]) == (False, True)
    assert 0 < progress["done"] < FRAMES
    assert studio.project.predicted() == list(range(progress["done"]))
    studio.project.predict = predict  # type: ignore[method-assign]
    assert client.post("/api/propagation", json={"direction": "forward"}).status_code == 200
    assert finished(client)["propagation"]["done"] == FRAMES


def test_a_discarded_mask_uncovers_the_predicted_one(client: TestClient) -> None:
    add_objects(client, 1)
    client.put("/api/masks/0", content=png(square()))
    client.post("/api/propagation", json={"direction": "forward"})
    finished(client)
    client.put("/api/masks/5", content=png(square(30)))
    assert client.get("/api/state").json()["given"] == [0, 5]
    assert client.delete("/api/masks/5").json() == {"agreement": None}
    np.testing.assert_array_equal(ids(client.get("/api/masks/5").content), square())
    assert client.delete("/api/masks/5").status_code == 400
    assert client.get("/api/masks/0").status_code == 200


def test_clicks_refine_the_stored_mask(client: TestClient) -> None:
    add_objects(client, 1, 2)
    half = square()
    half[:, 15:] = 0
    client.put("/api/masks/0", content=png(np.maximum(half, square(40, 2))))
    click = {"x": 19, "y": 16, "positive": True}
    answer = client.post("/api/proposal", json={"frame": 0, "object": 1, "refine": True, "clicks": [click]})
    refined = ids(answer.content) > 0
    assert refined[16, 19]
    assert refined[half > 0].mean() > 0.8
    assert not refined[:, 40:].any()


def test_frames_are_jpegs_of_the_video(client: TestClient) -> None:
    answer = client.get("/api/frames/2")
    assert answer.headers["content-type"] == "image/jpeg"
    image = np.array(Image.open(io.BytesIO(answer.content)))
    assert image.shape == (*SIZE, 3)
    assert image[16, 20].min() > 200
    assert client.get("/api/frames/8").status_code == 400
    assert client.get("/api/masks/2").status_code == 204


def test_the_page_and_its_scripts_are_served(client: TestClient) -> None:
    page = client.get("/").text
    assert "/page/app.js" in page
    for name in ("app.js", "api.js", "mask.js", "tools.js", "timeline.js", "view.js", "style.css", "icon.svg"):
        assert client.get(f"/page/{name}").status_code == 200, name
    everything = page + "".join(path.read_text() for path in (Path("src/voslab/studio/page")).glob("*.*"))
    assert "https://" not in everything  # nothing comes from another server
    assert everything.count("http://") == everything.count("http://www.w3.org/2000/svg")


BAD_REQUESTS = [
    ("PUT", "/api/masks/99", png(square()), "frame 99: the frames of the video are 0 to 7"),
    ("PUT", "/api/masks/0", png(np.zeros((4, 4))), "the mask is 4x4, the video 40x64"),
    ("PUT", "/api/masks/0", b"no image", "the mask is no PNG"),
    ("PUT", "/api/masks/0", png(square())[:60], "the mask is no PNG"),
    ("PUT", "/api/masks/0", png(square(identity=9)), "object 9, which is not in the list"),
    ("PUT", "/api/objects", b'{"objects": [{"id": 300, "name": "x"}]}', "object 300: ids are whole numbers"),
    ("PUT", "/api/objects", b'{"objects": [{"id": 1, "name": ""}]}', "must have 1 to 80 characters"),
    ("PUT", "/api/objects", b'{"objects": [{"id": 1}]}', "objects need an id and a name"),
    ("PUT", "/api/objects", b'{"objects": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "the same id"),
    ("POST", "/api/propagation", b"{}", "no mask is set"),
    ("POST", "/api/propagation", b'{"direction": "up"}', "direction"),
    ("POST", "/api/propagation", b'{"start": "x"}', "start and end must be frame numbers"),
    ("POST", "/api/propagation", b'{"start": -1}', "frame -1"),
    ("POST", "/api/proposal", b'{"frame": 0}', "neither a box nor a positive click"),
    ("POST", "/api/proposal", b'{"frame": 0, "box": [1, 2, 3]}', "a box has four sides"),
    ("POST", "/api/proposal", b'{"frame": 0, "box": [1, 2, 3, NaN]}', "coordinates must be finite"),
    ("POST", "/api/proposal", b'{"clicks": 5}', "a proposal needs frame"),
    ("POST", "/api/export", b'{"save": ["everything"]}', "everything: no such output"),
    ("POST", "/api/export", b'{"save": ["masks"]}', "there is no mask to export"),
    ("POST", "/api/export", b"[" * 100000, "the request is not JSON"),
    ("POST", "/api/export", b"[1]", "not a JSON object"),
]


@pytest.mark.parametrize(("method", "path", "body", "message"), BAD_REQUESTS, ids=[row[3] for row in BAD_REQUESTS])
def test_bad_requests_get_one_line_and_change_nothing(
    client: TestClient, studio: Studio, method: str, path: str, body: bytes, message: str
) -> None:
    add_objects(client, 1)
    before = client.get("/api/state").json()
    answer = client.request(method, path, content=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert client.get("/api/state").json() == before


def test_a_stream_cannot_be_annotated(clip: Path, tmp_path: Path) -> None:
    session = Predictor.load(model="copy_first").session(iter([np.zeros((*SIZE, 3), np.uint8)]), probabilities=True)
    project = Project(tmp_path / "session", clip, SIZE)
    with pytest.raises(ConfigError, match="a stream cannot be annotated"):
        Studio(session, project, GrabCut(), no_export, [], "camera", "copy_first")
