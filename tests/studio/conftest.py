from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from voslab import Predictor
from voslab.engine import Prediction
from voslab.studio.guard import Guard
from voslab.studio.project import Project
from voslab.studio.proposer import GrabCut
from voslab.studio.server import application
from voslab.studio.workspace import Studio

SIZE = (40, 64)
FRAMES = 8
LIMIT = 1 << 20


def images() -> list[NDArray[np.uint8]]:
    """A bright square that moves to the right on a dark ground."""
    frames = np.full((FRAMES, *SIZE, 3), 20, np.uint8)
    for t in range(FRAMES):
        frames[t, 10:24, 8 + 3 * t : 22 + 3 * t] = 220
    return list(frames)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "a clip"
    folder.mkdir()
    for t, image in enumerate(images()):
        Image.fromarray(image).save(folder / f"{t:05d}.png")
    return folder


def no_export(names: list[str], predictions: Iterator[Prediction]) -> list[str]:
    list(predictions)
    return names


@pytest.fixture
def studio(clip: Path, tmp_path: Path) -> Studio:
    session = Predictor.load(model="copy_first").session(clip, probabilities=True)
    project = Project(tmp_path / "session", clip, SIZE)
    return Studio(session, project, GrabCut(), no_export, ["masks", "rgba"], "a clip", "copy_first")


Connect = Callable[[Studio], TestClient]


@pytest.fixture
def connect() -> Connect:
    """A client of a studio behind the guard, under the server's own name."""

    def connected(studio: Studio) -> TestClient:
        return TestClient(Guard(application(studio), ("localhost",), None, LIMIT), base_url="http://localhost:7860")

    return connected


@pytest.fixture
def client(studio: Studio, connect: Connect) -> TestClient:
    return connect(studio)
