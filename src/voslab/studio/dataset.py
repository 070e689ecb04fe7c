"""Writes annotated frames into a folder for training, in the layout of `data=folder`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2

from voslab.core import DataError, WriteError, atomic_path, atomic_write
from voslab.engine import Prediction
from voslab.video import write_mask

_QUALITY = 95


class DatasetSink:
    """Sink that writes `frames/<video>/` and `masks/<video>/`, of the frames that have a mask.

    Videos of other sessions in the folder are left alone: if one has the name already, a number is appended. What the
    same session exported earlier is replaced.

    Args:
        root: Folder of the data set; created if it does not exist.
        name: Name of the video.
        session: Folder of the session.
        files: Image files of the video, which are copied; None: frames are written as JPEG.

    Raises:
        DataError: On entry, if the folder has another layout.
        WriteError: If it cannot be written.
    """

    def __init__(self, root: Path, name: str, session: Path, files: Sequence[Path] | None = None) -> None:
        self._root, self._name, self._session, self._files = root, name, session.resolve(), files
        self._written: set[str] = set()

    def __enter__(self) -> Self:
        frames = self._root / "frames"
        others = [self._root / "JPEGImages", self._root / "Annotations", *frames.glob("*.*")]
        if found := [path for path in others if path.exists() and (path.is_file() or path.parent != frames)]:
            raise DataError(f"{found[0]}: the data set has another layout than frames/<video>/; give another folder")
        try:
            self._name = claim_name(self._root, self._name, self._session)
        except OSError as error:
            raise WriteError(f"{self._root}: cannot be written ({error.strerror or error})") from error
        return self

    def put(self, prediction: Prediction) -> None:
        """See `Sink.put`."""
        stem, file = f"{prediction.index:05d}", None
        if self._files is not None:
            file = self._files[prediction.index]
            stem = file.stem
        target = self._root / "frames" / self._name / f"{stem}{'.jpg' if file is None else file.suffix}"
        with atomic_path(target) as path:
            if file is None:
                _, content = cv2.imencode(".jpg", prediction.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                path.write_bytes(content.tobytes())
            else:
                shutil.copyfile(file, path)
        write_mask(self._root / "masks" / self._name / f"{stem}.png", prediction.ids)
        self._written.add(stem)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or not self._written:
            return
        for folder in ("masks", "frames"):
            for path in (self._root / folder / self._name).iterdir():
                if path.stem not in self._written:
                    path.unlink()


def claim_name(root: Path, name: str, session: Path) -> str:
    """Return the name under which a session has its video in a data set, and reserve it.

    Args:
        root: Folder of the data set; created if it does not exist.
        name: Name of the video.
        session: Folder of the session.

    Returns:
        The name that the session has already, else `name`, else `name_2` and so on.

    Raises:
        OSError: If the folder cannot be written.
    """
    records = root / "sessions"
    records.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        candidate = name if number == 1 else f"{name}_{number}"
        record = records / f"{candidate}.txt"
        if record.is_file():
            if record.read_text().strip() == str(session):
                return candidate
            continue
        folders = [root / folder / candidate for folder in ("frames", "masks")]
        files = [*(root / "videos").glob("*"), *(root / "masks").glob("*.png")]
        if any(path.exists() for path in folders) or any(path.stem == candidate for path in files):
            continue
        atomic_write(record, f"{session}\n")
        return candidate
    raise AssertionError("count does not end")
