"""Types that describe the expected files of a data set and the result of a check."""

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
        name: File name.
        url: URL of the file, or of its download page.
        pattern: Regular expression for the names of members to unpack, at any depth of the archive.
        to: Target of a match, as an expansion template, relative to the folder of the data set.
        provides: Path prefixes that the archive fills, relative to the folder of the data set.
    """

    name: str
    url: str
    pattern: str
    to: str = r"\1"
    provides: tuple[str, ...] = ("",)

    def destination(self, member: str) -> str | None:
        """Return the path of a member relative to the folder of the data set; None if it is not unpacked."""
        if any(part.startswith(".") or part == "__MACOSX" for part in member.split("/")):
            return None
        found = re.fullmatch(rf"(?:.+?/)??{self.pattern}", member)
        return found.expand(self.to) if found else None


@dataclass(frozen=True)
class SequenceList:
    """A list of sequences.

    Attributes:
        paths: Possible paths of the list.
        sequences: Number of sequences in the official list of each release.
        frames: Number of frames in the official list.
    """

    paths: tuple[str, ...]
    sequences: tuple[int, ...] = ()
    frames: int | None = None


@dataclass(frozen=True)
class VideoFolders:
    """Frames and masks as image files, in one folder per sequence.

    Attributes:
        lists: Text files with names or paths, or `meta.json`.
        frames: Folder of the frames.
        masks: Folder of the masks; None if another component describes them.
        masked: Which frames have a mask: all, the first, those that `meta.json` lists, or some of these.
        palette: Whether masks hold the ids of several objects.
    """

    lists: tuple[SequenceList, ...]
    frames: str
    masks: str | None
    masked: Literal["all", "first", "listed", "some"] = "all"
    palette: bool = False


@dataclass(frozen=True)
class AnnotatedImages:
    """Images that a JSON file lists: still images (COCO) or frames of videos (OVIS).

    Attributes:
        annotations: Possible paths of the file, the official one first.
        folders: Possible folders of the images, the official one first.
        entries: Kind of entry in the file.
        official: Number of entries in the official file.
        subset: Whether images may be missing.
    """

    annotations: tuple[str, ...]
    folders: tuple[str, ...]
    entries: Literal["images", "videos"]
    official: int
    subset: bool = False


@dataclass(frozen=True)
class ImageMaskPairs:
    """Folders of images with masks. `sets` are the name and number of pairs of known data sets; any one is enough."""

    sets: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class UserFolder:
    """The user's own videos, with optional lists of them."""

    lists: tuple[str, ...]


@dataclass(frozen=True)
class Generated:
    """A data set generated on first use. The file `note` marks it as complete."""

    note: str


Component = VideoFolders | AnnotatedImages | ImageMaskPairs | UserFolder | Generated


@dataclass(frozen=True)
class DataSet:
    """The expected files of a data set, and the archives that provide them.

    Attributes:
        title: Display name.
        root: Folder of the data set.
        components: Expected content of the folder.
        page: Official web page.
        licence: Short form of the licence.
        archives: Official archives, the most common first.
    """

    title: str
    root: Path
    components: tuple[Component, ...]
    page: str = ""
    licence: str = ""
    archives: tuple[Archive, ...] = ()


class State(Enum):
    """State of an entry of the tree. `OPTIONAL` entries are missing but not needed."""

    PRESENT = "present"
    PARTIAL = "partial"
    MISSING = "missing"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Entry:
    """One line of the expected tree: path relative to the root, state, and a description of the files found."""

    path: str
    state: State
    text: str


@dataclass(frozen=True)
class CheckResult:
    """Result of checking a data set or one component of it.

    Attributes:
        entries: The expected tree.
        faults: Missing or inconsistent files, one line each.
        missing: Paths relative to the root that do not exist at all.
    """

    entries: tuple[Entry, ...]
    faults: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every required file exists and nothing is faulty."""
        return not self.faults and all(entry.state in {State.PRESENT, State.OPTIONAL} for entry in self.entries)

    @property
    def absent(self) -> bool:
        """Whether no file exists."""
        return all(entry.state in {State.MISSING, State.OPTIONAL} for entry in self.entries) and not self.complete
