"""Serves the annotation page: `python -m src.annotate video=FILE [checkpoint=FILE] [port=7860]`."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from voslab.cli.annotate_session import DATASET, export, internals, second_model
from voslab.cli.entry import run
from voslab.cli.models import load_model
from voslab.cli.saved_outputs import OUTPUTS
from voslab.core import ConfigError, claimed
from voslab.engine import Prediction
from voslab.engine.device import find_device
from voslab.predictor import Predictor
from voslab.studio.proposer import GrabCut, Proposer
from voslab.studio.segment_anything import SegmentAnything
from voslab.video import open_video

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LARGEST_BODY = 64 << 20


def main(config: DictConfig) -> None:
    """Serve the page until the program is stopped."""
    try:
        import uvicorn

        from voslab.studio.guard import Guard
        from voslab.studio.project import Project
        from voslab.studio.server import application
        from voslab.studio.workspace import Studio
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn"}:
            raise
        raise ConfigError("the annotation page needs starlette and uvicorn: pip install 'voslab[annotate]'") from error
    proposer = _proposer(config.proposer)
    if not 0 <= config.port < 1 << 16:
        raise ConfigError(f"port={config.port}: must be from 0 to {(1 << 16) - 1}")
    video = open_video(config.video)
    name = Path(config.video).resolve()
    folder = Path(config.output) / (name.name if name.is_dir() else name.stem)
    if folder.resolve() == name:
        raise ConfigError(f"output={config.output}: the session would be in the folder of the video; give another one")
    model = load_model(config)
    model.warn_if_random()
    device = find_device(config.engine.device)
    session = Predictor(model, device).session(video, probabilities=True)
    second, compared = second_model(config, video, folder)
    with claimed(folder), _bound(config.host, config.port) as listening:

        def save(names: list[str], predictions: Iterator[Prediction]) -> list[str]:
            return export(config, folder, names, predictions, video)

        project = Project(folder, name, video.size)
        studio = Studio(
            *(session, project, proposer, save, [*OUTPUTS, DATASET], name.name, model.name),
            second=second,
            compared=compared,
            internals=internals(model, folder, video.size),
        )
        local = config.host in _LOOPBACK
        token = None if local else secrets.token_urlsafe(16)
        app = Guard(application(studio), _LOOPBACK if local else (), token, _LARGEST_BODY)
        host = f"[{config.host}]" if ":" in config.host else config.host
        url = f"http://{host}:{listening.getsockname()[1]}/" + ("" if token is None else f"?token={token}")
        print(
            f"session: {folder}\npage: {url}\nstop with Ctrl-C; the same command goes on with the session", flush=True
        )
        if config.browser and local:
            webbrowser.open(url)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        server.run(sockets=[listening])


def _proposer(config: DictConfig) -> Proposer:
    files = [config.encoder, config.decoder]
    if files == [None, None]:
        return GrabCut()
    if None in files:
        raise ConfigError("proposer.encoder and proposer.decoder go together: give both files")
    return SegmentAnything.load(*(Path(str(file)) for file in files))


def _bound(host: str, port: int) -> socket.socket:
    """Bind a socket, so that an occupied port is one line before anything is served."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise ConfigError(f"host={host} port={port}: cannot listen there ({reason}); try another port") from error


if __name__ == "__main__":
    run("annotate")
