"""The words of the catalogue and the tree: what is expected of a data set, and what is found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Archive:
    """An official archive.

    Attributes:
        name: of the file.
        url: of the file, or of the page that leads to it.
        pattern: matches names of members that are wanted, wherever they lie in the archive.
        to: where a match goes, below the data set's folder.
        gives: beginnings of what it provides, below the data set's folder.
    """

    name: str
    url: str
    pattern: str
    to: str = r"\1"
    gives: tuple[str, ...] = ("",)

    def place(self, member: str) -> str | None:
        """Where a member goes, below the data set's folder; None: nowhere."""
        if any(part.startswith(".") or part == "__MACOSX" for part in member.split("/")):
            return None
        found = re.fullmatch(rf"(?:.+?/)??{self.pattern}", member)
        return found.expand(self.to) if found else None


@dataclass(frozen=True)
class Names:
    """A list of sequences: where it may lie, and the sequences and frames of the official one (of each release)."""

    places: tuple[str, ...]
    sequences: tuple[int, ...] = ()
    frames: int | None = None


@dataclass(frozen=True)
class Videos:
    """Frames and masks as files, a folder for each sequence of the lists.

    Attributes:
        lists: text files with names or paths, or `meta.json`.
        frames: folder of the sequences' frames.
        masks: folder of their masks; None where another part has them.
        masked: which frames have a mask: all, the first, those that `meta.json` lists, or some of them.
        palette: masks hold the ids of several objects.
    """

    lists: tuple[Names, ...]
    frames: str
    masks: str | None
    masked: Literal["all", "first", "listed", "some"] = "all"
    palette: bool = False


@dataclass(frozen=True)
class Annotated:
    """Pictures that a JSON file lists: stills (COCO) or the frames of videos (OVIS).

    Attributes:
        annotations: places of the file, the official one first.
        folders: places of the pictures, likewise.
        entries: what the file lists.
        official: how many.
        subset: pictures may be missing.
    """

    annotations: tuple[str, ...]
    folders: tuple[str, ...]
    entries: Literal["images", "videos"]
    official: int
    subset: bool = False


@dataclass(frozen=True)
class Pairs:
    """Folders of images with masks: names and numbers of pairs of known sets, any of which will do."""

    sets: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Own:
    """The user's own videos, and lists of them that may be there."""

    lists: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """Made on first use; `note` tells that it is there."""

    note: str


Part = Videos | Annotated | Pairs | Own | Made


@dataclass(frozen=True)
class DataSet:
    """What must be there, and how it gets there.

    Attributes:
        title: its name.
        root: folder that holds all of it.
        parts: what is expected in it.
        page: official source.
        licence: in short.
        archives: what it is unpacked from, the usual ones first.
    """

    title: str
    root: Path
    parts: tuple[Part, ...]
    page: str = ""
    licence: str = ""
    archives: tuple[Archive, ...] = ()


class State(Enum):
    """Of a line of the tree; what is optional is not there and need not be."""

    PRESENT = "there"
    PARTIAL = "partial"
    MISSING = "missing"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Entry:
    """One line of the expected tree: the path below the root, and what is found of it."""

    path: str
    state: State
    text: str


@dataclass(frozen=True)
class Found:
    """What is there of a data set or a part of it.

    Attributes:
        lines: the expected tree.
        faults: what is missing or does not fit, one line each, naming the file.
        missing: paths below the root of which nothing is there.
    """

    lines: tuple[Entry, ...]
    faults: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing that is needed is missing or faulty."""
        return not self.faults and all(line.state in {State.PRESENT, State.OPTIONAL} for line in self.lines)

    @property
    def absent(self) -> bool:
        """Whether there is nothing at all."""
        return all(line.state in {State.MISSING, State.OPTIONAL} for line in self.lines) and not self.complete
