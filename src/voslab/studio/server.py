"""The web application of the annotation page: frames, masks, proposals, propagation and export of one session."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from dataclasses import replace
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
from voslab.engine.directions import check_direction
from voslab.studio.project import AnnotatedObject
from voslab.studio.proposer import Click, Prompt
from voslab.studio.workspace import Studio

PAGE = Path(__file__).parent / "page"


class _Api:
    """Answers the requests of the page."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def state(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._studio.state))

    async def progress(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        return JSONResponse(self._studio.progress(int(after) if after.isdecimal() else 0))

    async def frame(self, request: Request) -> Response:
        content = await run_in_threadpool(self._studio.frames.jpeg, request.path_params["frame"])
        return Response(content, media_type="image/jpeg")

    async def read(self, request: Request) -> Response:
        return _mask_answer(await run_in_threadpool(self._studio.project.mask, request.path_params["frame"]))

    async def read_second(self, request: Request) -> Response:
        compared = self._studio.compared
        frame = request.path_params["frame"]
        return _mask_answer(None if compared is None else await run_in_threadpool(compared.mask, frame))

    async def internal(self, request: Request) -> Response:
        internals = self._studio.internals
        if internals is None:
            raise DataError("the method declares no internals")
        name, frame = request.path_params["name"], request.path_params["frame"]
        content = await run_in_threadpool(internals.jpeg, name, frame)
        return Response(status_code=204) if content is None else Response(content, media_type="image/jpeg")

    async def write(self, request: Request) -> Response:
        mask = await run_in_threadpool(_read_png, await request.body(), self._studio.project.size)
        value = await run_in_threadpool(self._studio.give, request.path_params["frame"], mask)
        return JSONResponse({"agreement": value})

    async def delete(self, request: Request) -> Response:
        value = await run_in_threadpool(self._studio.forget, request.path_params["frame"])
        return JSONResponse({"agreement": value})

    async def objects(self, request: Request) -> Response:
        values = await _json(request)
        try:
            found = [AnnotatedObject(one["id"], one["name"]) for one in values["objects"]]
        except (KeyError, TypeError) as error:
            raise DataError(f"objects need an id and a name ({error})") from error
        await run_in_threadpool(self._studio.project.set_objects, found)
        return JSONResponse(self._studio.objects())

    async def propose(self, request: Request) -> Response:
        values = await _json(request)
        number, prompt = _prompt(values)
        if values.get("refine"):
            stored = await run_in_threadpool(self._studio.project.mask, number)
            prompt = replace(prompt, mask=None if stored is None else stored == values.get("object"))
        image = await run_in_threadpool(self._studio.image, number)
        mask = await run_in_threadpool(self._studio.proposer.propose, image, prompt)
        return Response(_png(mask.astype(np.uint8)), media_type="image/png")

    async def propagate(self, request: Request) -> Response:
        values = await _json(request)
        start, end = values.get("start", 0), values.get("end", self._studio.count - 1)
        if not all(isinstance(value, int) for value in (start, end)):
            raise ConfigError("start and end must be frame numbers")
        direction = check_direction(values.get("direction", "both"))
        second, internals = values.get("second") is True, values.get("internals") is True
        if not await run_in_threadpool(self._studio.propagate, direction, start, end, second, internals):
            return JSONResponse({"error": "a propagation is running; cancel it first"}, 409)
        return JSONResponse(self._studio.progress(0))

    async def cancel(self, request: Request) -> Response:
        await run_in_threadpool(self._studio.propagation.cancel)
        return JSONResponse(self._studio.progress(0))

    async def save(self, request: Request) -> Response:
        names = (await _json(request)).get("save", [])
        if not isinstance(names, list) or not names:
            raise ConfigError("choose what to export")
        return JSONResponse({"paths": await run_in_threadpool(self._studio.save, [str(name) for name in names])})


def application(studio: Studio) -> Starlette:
    """Build the web application, which `Guard` must protect.

    Args:
        studio: The session.

    Returns:
        The application. Errors of users are answered with status 400 and one line.
    """
    api = _Api(studio)
    routes = [
        Route("/", api.page),
        Route("/api/state", api.state),
        Route("/api/progress", api.progress),
        Route("/api/frames/{frame:int}", api.frame),
        Route("/api/masks/{frame:int}", api.read, methods=["GET"]),
        Route("/api/masks/{frame:int}", api.write, methods=["PUT"]),
        Route("/api/masks/{frame:int}", api.delete, methods=["DELETE"]),
        Route("/api/second/{frame:int}", api.read_second),
        Route("/api/internals/{name}/{frame:int}", api.internal),
        Route("/api/objects", api.objects, methods=["PUT"]),
        Route("/api/proposal", api.propose, methods=["POST"]),
        Route("/api/propagation", api.propagate, methods=["POST"]),
        Route("/api/propagation", api.cancel, methods=["DELETE"]),
        Route("/api/export", api.save, methods=["POST"]),
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


def _mask_answer(mask: NDArray[np.integer] | None) -> Response:
    return Response(status_code=204) if mask is None else Response(_png(mask), media_type="image/png")


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
