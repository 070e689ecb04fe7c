from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.studio.conftest import LIMIT
from voslab.studio.guard import Guard
from voslab.studio.server import application
from voslab.studio.workspace import Studio


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:8080", "https://evil.localhost", "null"])
def test_requests_of_other_sites_are_refused(client: TestClient, studio: Studio, origin: str) -> None:
    for method, path in (("GET", "/api/state"), ("DELETE", "/api/propagation"), ("PUT", "/api/objects")):
        assert client.request(method, path, headers={"origin": origin}, json={"objects": []}).status_code == 403
    assert client.get("/api/state", headers={"origin": "http://localhost:7860"}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "localhost.evil.example", ""])
def test_other_names_of_this_machine_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/state", headers={"host": host}).status_code == 421


def test_a_server_for_others_needs_its_token(studio: Studio) -> None:
    client = TestClient(Guard(application(studio), (), "secret", LIMIT), base_url="http://lab.example:7860")
    for path in ("/", "/api/state", "/api/state?token=wrong", "/api/state?token="):
        assert client.get(path).status_code == 401
    assert client.get("/api/state", headers={"cookie": "voslab_token=wrong"}).status_code == 401
    answer = client.get("/?token=secret")
    assert answer.status_code == 200
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert client.get("/api/state").status_code == 200  # the cookie is kept


def test_large_bodies_are_refused(client: TestClient) -> None:
    assert client.put("/api/masks/0", content=b"x" * (LIMIT + 1)).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(LIMIT // 1024 + 2):
            yield b"x" * 1024

    assert client.put("/api/masks/0", content=pieces()).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        *("/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/page//etc/passwd"),
        *("/api/masks/..%2f..%2fsession.json", "/api/frames/-1", "/api/frames/0%2f..%2f..%2fstate", "/session.json"),
    ],
)
def test_only_the_page_and_the_frames_are_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in {400, 404, 405}
    assert "import" not in answer.text


def test_names_of_objects_are_not_markup() -> None:
    scripts = "".join(path.read_text() for path in Path("src/voslab/studio/page").glob("*.js"))
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert sink not in scripts


def test_the_answers_forbid_foreign_content_and_frames(client: TestClient) -> None:
    headers = client.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
