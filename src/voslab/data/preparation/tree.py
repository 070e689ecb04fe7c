"""What of a data set is there: its tree with counts, and what is missing or does not fit together.

Compares names and numbers of files; `verification` reads the images themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from functools import singledispatch
from pathlib import Path

from voslab.core import DataError
from voslab.data.preparation.layout import (
    Annotated,
    DataSet,
    Entry,
    Found,
    Made,
    Names,
    Own,
    Pairs,
    Part,
    State,
    Videos,
)
from voslab.data.preparation.listing import first, folders, pictures_below, read_annotated, read_names, stems
from voslab.data.sources.stills import stills
from voslab.video.images import opened_image

VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm"})


def check(data_set: DataSet) -> Found:
    """Compare what is on the disk with what is expected. Damaged lists are among the faults."""
    found = [_look(part, data_set.root) for part in data_set.parts]
    lines = dict.fromkeys(line for one in found for line in one.lines)
    return Found(
        tuple(lines),
        tuple(dict.fromkeys(fault for one in found for fault in one.faults)),
        tuple(dict.fromkeys(path for one in found for path in one.missing)),
    )


@singledispatch
def _look(part: Part, root: Path) -> Found:
    raise TypeError(part)


@_look.register
def _(part: Videos, root: Path) -> Found:
    lines, faults, missing = [], [], []
    names: dict[str, frozenset[str] | None] = {}
    for listed in part.lists:
        line, found, damage = _list(listed, root)
        lines.append(line)
        faults += damage
        names.update(found)
        if line.state is State.MISSING:
            missing.append(listed.places[0])
    known = bool(names)
    names = names or {path.name: None for path in folders(root / part.frames)}
    counts = []
    for name, needed in names.items():
        images, masks = stems(root / part.frames / name), stems(root / (part.masks or "") / name, {".png"})
        counts.append((len(images), len(masks)))
        if images or masks:
            faults += _gaps(part, name, needed, frozenset(images), frozenset(masks))
    for kind, folder, which in (("frames", part.frames, 0), ("masks", part.masks, 1)):
        if folder is None:
            continue
        numbers = dict(zip(names, (count[which] for count in counts), strict=True))
        official = _official(part, len(names)) if kind == "frames" or part.masked == "all" else 0
        if not sum(numbers.values()):
            missing.append(folder)
        elif lost := [name for name, number in numbers.items() if not number]:
            faults.append(f"{folder}: no {kind} of {_some(lost)}")
        line = _tally(kind, folder, list(numbers.values()), official)
        unknown = Entry(
            line.path, State.PARTIAL, f"{_count(len(names), 'sequence')} there; the lists say which are needed"
        )
        lines.append(line if known or line.state is State.MISSING else unknown)
    if part.palette:
        faults += _grey(part, root, names)
    return Found(tuple(lines), tuple(faults), tuple(missing))


@_look.register
def _(part: Annotated, root: Path) -> Found:
    path, folder = first(root, part.annotations), first(root, part.folders)
    missing = [*([] if path else [part.annotations[0]]), *([] if folder else [part.folders[-1]])]
    place = f"{folder.relative_to(root) if folder else part.folders[-1]}/"
    there = pictures_below(folder) if folder else frozenset()
    if path is None:
        lines = (Entry(part.annotations[0], State.MISSING, ""), _pictures(place, there, there))
        return Found(lines, missing=tuple(missing))
    name = str(path.relative_to(root))
    try:
        files, entries, objects = read_annotated(path)
    except DataError as error:
        lines = (Entry(name, State.PARTIAL, "damaged"), _pictures(place, there, there))
        return Found(lines, (str(error),), tuple(missing))
    note = "" if entries >= part.official else f": a part of the official {part.official:,}"
    text = f"{entries:,} {part.entries}{note}, {objects:,} {'objects' if objects else 'objects: no annotations in it'}"
    lost = sorted(files.keys() - there)
    fault = f"{place}: {len(lost):,} of {len(files):,} pictures in {name} are missing: {_some(lost)}"
    lines = (
        Entry(name, State.PRESENT if objects else State.PARTIAL, text),
        _pictures(place, there, there if part.subset else files.keys()),
    )
    return Found(lines, (fault,) if lost and there and not part.subset else (), tuple(missing))


@_look.register
def _(part: Pairs, root: Path) -> Found:
    try:
        found = Counter(image.relative_to(root).parts[0] for image, _ in stills(root).pairs)
    except DataError:
        found = Counter()
    known = dict(part.sets)
    lines = []
    for name in (*known, *sorted(found.keys() - known.keys())):
        of = f" of {known[name]:,}" if name in known else ""
        state = State.OPTIONAL if not found[name] else State.PRESENT
        lines.append(Entry(f"{name}/", state, f"{found[name]:,}{of} pictures with masks"))
    if not found:
        lines.append(Entry("<set>/<images>/*.jpg + <masks>/*.png", State.MISSING, "one of these sets, or of your own"))
    return Found(tuple(lines), missing=() if found else ("DUTS-TR/DUTS-TR-Image",))


@_look.register
def _(part: Own, root: Path) -> Found:
    frames, masks = (first(root, places) for places in (("frames", "JPEGImages"), ("masks", "Annotations")))
    alone = bool(frames and not folders(frames) and stems(frames))
    names = [root.name] if alone else [path.name for path in folders(frames)]
    files = sorted(stems(root / "videos", VIDEOS))
    masked = {path.name for path in folders(masks)} | stems(masks or root / "masks", {".png"}).keys()
    none = State.MISSING if not names and not files else State.OPTIONAL
    lines = [
        Entry("frames/<video>/*.jpg", State.PRESENT if names else none, _count(len(names), "video")),
        Entry("videos/<video>.mp4", State.PRESENT if files else State.OPTIONAL, _count(len(files), "video")),
        Entry(
            "masks/<video>/*.png",
            State.PRESENT if masked else State.MISSING,
            "" if alone else f"{len(masked):,} videos",
        ),
    ]
    for name in part.lists:
        there = (root / name).is_file()
        text = _count(len(read_names(root / name)), "video") if there else "not there: all videos"
        lines.append(Entry(name, State.PRESENT if there else State.OPTIONAL, text))
    strange = [] if alone else sorted(masked - {*names, *files})
    faults = (f"masks: there is no video for those of {_some(strange)}",) if strange else ()
    missing = [*([] if names or files else ["frames"]), *([] if masked else ["masks"])]
    return Found(tuple(lines), faults, tuple(missing))


@_look.register
def _(part: Made, root: Path) -> Found:
    there = (root / part.note).is_file()
    return Found((Entry(part.note, State.PRESENT if there else State.OPTIONAL, "" if there else "made on first use"),))


def _list(names: Names, root: Path) -> tuple[Entry, dict[str, frozenset[str] | None], list[str]]:
    """The line of a list, what it lists, and its faults."""
    path = first(root, names.places)
    if path is None:
        return Entry(" or ".join(names.places), State.MISSING, ""), {}, []
    place = str(path.relative_to(root))
    try:
        found = read_names(path)
    except DataError as error:
        return Entry(place, State.PARTIAL, "damaged"), {}, [str(error)]
    if not found:
        return Entry(place, State.PARTIAL, "empty"), {}, [f"{place}: names no sequence"]
    official = " or ".join(f"{number:,}" for number in names.sequences)
    note = "" if len(found) in names.sequences or not official else f", officially {official}"
    return Entry(place, State.PRESENT, f"{_count(len(found), 'sequence')}{note}"), found, []


def _official(part: Videos, count: int) -> int:
    """Frames of the official lists if this many sequences are all of theirs, else 0: not known."""
    whole = all(names.frames for names in part.lists)
    same = count == sum(max(names.sequences, default=0) for names in part.lists)
    return sum(names.frames or 0 for names in part.lists) if whole and same else 0


def _tally(kind: str, folder: str, numbers: list[int], official: int) -> Entry:
    total, there = sum(numbers), sum(bool(number) for number in numbers)
    enough = there == len(numbers) and total >= official
    state = State.MISSING if not total else State.PRESENT if enough else State.PARTIAL
    of = f" of {official:,}" if official else ""
    text = f"{total:,}{of} {kind}, {there:,} of {len(numbers):,} sequences" if numbers else ""
    return Entry(f"{folder}/<sequence>/*.{'jpg' if kind == 'frames' else 'png'}", state, text)


def _gaps(
    part: Videos, name: str, needed: frozenset[str] | None, images: frozenset[str], masks: frozenset[str]
) -> list[str]:
    """Frames without masks and masks without frames of a sequence that is there."""
    frames = (needed or frozenset()) | masks
    wanted = {
        "all": images,
        "first": frozenset(sorted(images)[:1]),
        "listed": needed or frozenset(),
        "some": frozenset(),
    }[part.masked]
    faults = []
    if images and (lost := sorted(frames - images)):
        faults.append(f"{part.frames}/{name}: missing frames: {_some(lost)}")
    if masks and (lost := sorted(wanted - masks)):
        faults.append(f"{part.masks}/{name}: missing masks: {_some(lost)}")
    return faults


def _grey(part: Videos, root: Path, names: Iterable[str]) -> list[str]:
    """Masks of the 2016 release where those of 2017 should be: they show one object, white."""
    firsts = [mask for name in names if (mask := next(iter(stems(root / (part.masks or "") / name).values()), None))]
    found = [mask for mask in firsts if _is_white(mask)]
    if not found:
        return []
    which = found[0].relative_to(root / (part.masks or ""))
    return [
        f"{part.masks}: black and white masks, as of DAVIS 2016, in {_count(len(found), 'sequence')} ({which}, …):"
        " move the folder away and unpack DAVIS 2017, whose masks do for both years"
    ]


def _is_white(mask: Path) -> bool:
    try:
        with opened_image(mask) as image:
            return (
                image.mode in {"L", "LA"}
                and image.getextrema() in {(0, 255), ((0, 255), (255, 255))}
                and (len(image.getchannel(0).getcolors() or ()) == 2)
            )
    except DataError:
        return False  # damaged: for `voslab.data.preparation.verification` to say


def _pictures(place: str, there: Set[str], wanted: Set[str]) -> Entry:
    state = State.MISSING if not there else State.PARTIAL if wanted - there else State.PRESENT
    of = f" of {len(wanted):,}" if wanted and wanted is not there else ""
    return Entry(f"{place}*.jpg", state, f"{len(wanted & there):,}{of} pictures" if there else "")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
