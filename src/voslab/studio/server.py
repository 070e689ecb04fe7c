"""The web application of the annotation page: frames, masks, proposals, propagation and export of one session."""

from __future__ import annotations

import io
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from voslab.core import ConfigError, DataError, VOSError
from voslab.engine import Prediction
from voslab.engine.directions import Direction, check_direction
from voslab.studio.frames import FrameCache
from voslab.studio.project import AnnotatedObject, Project, frames_of
from voslab.studio.propagation import Propagation
from voslab.studio.proposer import Click, Prompt, Proposer
from voslab.video.palette import colour
from voslab.video_session import VideoSession

PAGE = Path(__file__).parent / "page"
Handler = Callable[[Request], Awaitable[Response]]
Export = Callable[[list[str], Iterator[Prediction]], list[str]]


@dataclass
class Studio:
    """A session on a video, and what the page can do with it.

    Attributes:
        session: The video and the model.
        project: Where masks are stored.
        proposer: Makes masks from boxes and clicks.
        export: Writes outputs by their names from predictions in order; returns the paths.
        exports: Names of the outputs.
        title: Name of the video.
        model: Name of the model.
    """

    session: VideoSession
    project: Project
    proposer: Proposer
    export: Export
    exports: list[str]
    title: str
    model: str

    def __post_init__(self) -> None:
        count = self.session.count
        if count is None:
            raise ConfigError(f"{self.title}: a stream cannot be annotated; record it to a file first")
        self.count: int = count
        self.frames = FrameCache(self.session.image)
        self.propagation = Propagation(self.project.predict)
        self.lock = threading.Lock()
        for frame in self.project.given():
            mask = self.project.mask(frame)
            assert mask is not None
            self.session.set_mask(frame, mask)

    def state(self) -> dict[str, Any]:
        """Everything that the page needs at its start."""
        objects = [{**asdict(one), "color": _hex(one.id)} for one in self.project.objects.values()]
        return {
            "title": self.title,
            "model": self.model,
            "count": self.count,
            "size": self.project.size,
            "objects": objects,
            "given": self.project.given(),
            "predicted": self.project.predicted(),
            "uncertainty": sorted(self.project.uncertainty.items()),
            "exports": self.exports,
            "folder": str(self.project.folder),
            **self.progress(0),
        }

    def progress(self, after: int) -> dict[str, Any]:
        """State of the propagation, and frames that it predicted after an earlier answer."""
        progress, number, updates = self.propagation.progress(after)
        return {"propagation": asdict(progress), "update": number, "updates": updates}

    def give(self, frame: int, mask: NDArray[np.integer]) -> None:
        """Store a mask that the user made."""
        with self.lock:
            self._check(frame)
            self.project.give(frame, mask)
            self.session.set_mask(frame, mask)

    def forget(self, frame: int) -> None:
        """Delete a mask that the user made."""
        with self.lock:
            self.project.forget(frame)
            self.session.masks.pop(frame, None)

    def propagate(self, direction: Direction, start: int, end: int) -> bool:
        """Start a propagation; false while another one runs."""
        self._check(start)
        self._check(end)
        with self.lock:
            return self.propagation.start(self.session.propagate(direction, start, end), end - start + 1)

    def save(self, names: list[str]) -> list[str]:
        """Write outputs from the stored masks, and return their paths."""
        if unknown := sorted({*names} - {*self.exports}):
            raise ConfigError(f"{unknown[0]}: no such output (there are {', '.join(self.exports)})")
        frames = list(frames_of(self.project))
        if not frames:
            raise DataError("there is no mask to export")
        stored = (self.project.stored(frame, self.session.image(frame)) for frame in frames)
        return self.export(names, stored)

    def _check(self, frame: int) -> None:
        if not 0 <= frame < self.count:
            raise DataError(f"frame {frame}: the frames of the video are 0 to {self.count - 1}")


def application(studio: Studio) -> Starlette:
    """Build the web application, which `Guard` must protect.

    Args:
        studio: The session.

    Returns:
        The application. Errors of users are answered with status 400 and one line.
    """

    async def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def state(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(studio.state))

    async def progress(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        return JSONResponse(studio.progress(int(after) if after.isdecimal() else 0))

    async def frame(request: Request) -> Response:
        content = await run_in_threadpool(studio.frames.jpeg, request.path_params["frame"])
        return Response(content, media_type="image/jpeg")

    async def read(request: Request) -> Response:
        mask = await run_in_threadpool(studio.project.mask, request.path_params["frame"])
        return Response(status_code=204) if mask is None else Response(_png(mask), media_type="image/png")

    async def write(request: Request) -> Response:
        mask = await run_in_threadpool(_read_png, await request.body(), studio.project.size)
        await run_in_threadpool(studio.give, request.path_params["frame"], mask)
        return Response(status_code=204)

    async def delete(request: Request) -> Response:
        await run_in_threadpool(studio.forget, request.path_params["frame"])
        return Response(status_code=204)

    async def objects(request: Request) -> Response:
        values = await _json(request)
        try:
            found = [AnnotatedObject(one["id"], one["name"]) for one in values["objects"]]
        except (KeyError, TypeError) as error:
            raise DataError(f"objects need an id and a name ({error})") from error
        await run_in_threadpool(studio.project.set_objects, found)
        return JSONResponse(studio.state()["objects"])

    async def propose(request: Request) -> Response:
        values = await _json(request)
        number, prompt = _prompt(values)
        if values.get("refine"):
            stored = await run_in_threadpool(studio.project.mask, number)
            prompt = replace(prompt, mask=None if stored is None else stored == values.get("object"))
        image = await run_in_threadpool(studio.session.image, number)
        mask = await run_in_threadpool(studio.proposer.propose, image, prompt)
        return Response(_png(mask.astype(np.uint8)), media_type="image/png")

    async def propagate(request: Request) -> Response:
        values = await _json(request)
        start, end = values.get("start", 0), values.get("end", studio.count - 1)
        if not all(isinstance(value, int) for value in (start, end)):
            raise ConfigError("start and end must be frame numbers")
        direction = check_direction(values.get("direction", "both"))
        if not await run_in_threadpool(studio.propagate, direction, start, end):
            return JSONResponse({"error": "a propagation is running; cancel it first"}, 409)
        return JSONResponse(studio.progress(0))

    async def cancel(request: Request) -> Response:
        await run_in_threadpool(studio.propagation.cancel)
        return JSONResponse(studio.progress(0))

    async def save(request: Request) -> Response:
        names = (await _json(request)).get("save", [])
        if not isinstance(names, list) or not names:
            raise ConfigError("choose what to export")
        return JSONResponse({"paths": await run_in_threadpool(studio.save, [str(name) for name in names])})

    routes = [
        Route("/", page),
        Route("/api/state", state),
        Route("/api/progress", progress),
        Route("/api/frames/{frame:int}", frame),
        Route("/api/masks/{frame:int}", read, methods=["GET"]),
        Route("/api/masks/{frame:int}", write, methods=["PUT"]),
        Route("/api/masks/{frame:int}", delete, methods=["DELETE"]),
        Route("/api/objects", objects, methods=["PUT"]),
        Route("/api/proposal", propose, methods=["POST"]),
        Route("/api/propagation", propagate, methods=["POST"]),
        Route("/api/propagation", cancel, methods=["DELETE"]),
        Route("/api/export", save, methods=["POST"]),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        yield
        await run_in_threadpool(studio.propagation.cancel)

    handlers = {VOSError: _refused, ClientDisconnect: _too_large}
    return Starlette(routes=routes, exception_handlers=cast(Any, handlers), lifespan=lifespan)


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, 400)


async def _too_large(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the request was not received whole, or is too large"}, 413)


async def _json(request: Request) -> dict[str, Any]:
    try:
        values = await request.json()
    except (ValueError, RecursionError) as error:
        raise DataError(f"the request is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise DataError("the request is not a JSON object")
    return values


def _prompt(values: dict[str, Any]) -> tuple[int, Prompt]:
    try:
        clicks = [Click(float(one["x"]), float(one["y"]), bool(one["positive"])) for one in values.get("clicks", ())]
        sides = values.get("box")
        box = None if sides is None else tuple(float(side) for side in sides)
        if box is not None and len(box) != 4:
            raise ValueError("a box has four sides")
        if not np.isfinite([*(box or ()), *(side for one in clicks for side in (one.x, one.y))]).all():
            raise ValueError("coordinates must be finite")
        return int(values["frame"]), Prompt(clicks, cast(Any, box))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"a proposal needs frame, and clicks or a box ({error})") from error


def _png(mask: NDArray[np.integer]) -> bytes:
    """Encode a label map as grey PNG, which browsers show without changing values."""
    content = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(content, "PNG", compress_level=1)
    return content.getvalue()


def _read_png(content: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a mask of the page: ids are in the red channel. The size is checked before pixels are decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != size[::-1]:
                raise DataError(f"the mask is {image.size[1]}x{image.size[0]}, the video {size[0]}x{size[1]}")
            return np.array(image.convert("RGB"))[..., 0]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the mask is no PNG ({error})") from error


def _hex(number: int) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour(np.array(number)).tolist())
