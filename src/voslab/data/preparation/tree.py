"""Compares the files of a data set with the expected tree, by names and counts.

The module `verification` reads the images themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from functools import singledispatch
from pathlib import Path

from voslab.core import DataError
from voslab.data.preparation.layout import (
    AnnotatedImages,
    CheckResult,
    Component,
    DataSet,
    Entry,
    Generated,
    ImageMaskPairs,
    SequenceList,
    State,
    UserFolder,
    VideoFolders,
)
from voslab.data.preparation.listing import first_existing, folders, images_below, read_annotated, read_names, stems
from voslab.data.sources.stills import stills
from voslab.video.images import opened_image

VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm"})


def check(data_set: DataSet) -> CheckResult:
    """Compare the files on disk with the expected files.

    Args:
        data_set: Description of the data set.

    Returns:
        The tree with counts, and the faults; damaged lists are among them.
    """
    results = [_check_part(part, data_set.root) for part in data_set.components]
    entries = dict.fromkeys(entry for one in results for entry in one.entries)
    return CheckResult(
        tuple(entries),
        tuple(dict.fromkeys(fault for one in results for fault in one.faults)),
        tuple(dict.fromkeys(path for one in results for path in one.missing)),
    )


@singledispatch
def _check_part(part: Component, root: Path) -> CheckResult:
    raise TypeError(part)


@_check_part.register
def _(part: VideoFolders, root: Path) -> CheckResult:
    lines, faults, missing = [], [], []
    names: dict[str, frozenset[str] | None] = {}
    for listed in part.lists:
        line, found, damage = _check_list(listed, root)
        lines.append(line)
        faults += damage
        names.update(found)
        if line.state is State.MISSING:
            missing.append(listed.paths[0])
    known = bool(names)
    names = names or {path.name: None for path in folders(root / part.frames)}
    counts = []
    for name, needed in names.items():
        images, masks = stems(root / part.frames / name), stems(root / (part.masks or "") / name, {".png"})
        counts.append((len(images), len(masks)))
        if images or masks:
            faults += _find_gaps(part, name, needed, frozenset(images), frozenset(masks))
    for kind, folder, which in (("frames", part.frames, 0), ("masks", part.masks, 1)):
        if folder is None:
            continue
        numbers = dict(zip(names, (count[which] for count in counts), strict=True))
        official = _official(part, len(names)) if kind == "frames" or part.masked == "all" else 0
        if not sum(numbers.values()):
            missing.append(folder)
        elif lost := [name for name, number in numbers.items() if not number]:
            faults.append(f"{folder}: no {kind} of {_first_few(lost)}")
        line = _count_entry(kind, folder, list(numbers.values()), official)
        unknown = Entry(
            line.path,
            State.PARTIAL,
            f"{_count(len(names), 'sequence')} found; the lists of required sequences are missing",
        )
        lines.append(line if known or line.state is State.MISSING else unknown)
    if part.palette:
        faults += _find_2016_masks(part, root, names)
    return CheckResult(tuple(lines), tuple(faults), tuple(missing))


@_check_part.register
def _(part: AnnotatedImages, root: Path) -> CheckResult:
    path, folder = first_existing(root, part.annotations), first_existing(root, part.folders)
    missing = [*([] if path else [part.annotations[0]]), *([] if folder else [part.folders[-1]])]
    place = f"{folder.relative_to(root) if folder else part.folders[-1]}/"
    there = images_below(folder) if folder else frozenset()
    if path is None:
        lines = (Entry(part.annotations[0], State.MISSING, ""), _images_entry(place, there, there))
        return CheckResult(lines, missing=tuple(missing))
    name = str(path.relative_to(root))
    try:
        files, entries, objects = read_annotated(path)
    except DataError as error:
        lines = (Entry(name, State.PARTIAL, "damaged"), _images_entry(place, there, there))
        return CheckResult(lines, (str(error),), tuple(missing))
    note = "" if entries >= part.official else f" of the official {part.official:,}"
    text = f"{entries:,} {part.entries}{note}, {objects:,} {'objects' if objects else 'objects: it has no annotations'}"
    lost = sorted(files.keys() - there)
    fault = f"{place}: {len(lost):,} of {len(files):,} images in {name} are missing: {_first_few(lost)}"
    lines = (
        Entry(name, State.PRESENT if objects else State.PARTIAL, text),
        _images_entry(place, there, there if part.subset else files.keys()),
    )
    return CheckResult(lines, (fault,) if lost and there and not part.subset else (), tuple(missing))


@_check_part.register
def _(part: ImageMaskPairs, root: Path) -> CheckResult:
    try:
        found = Counter(image.relative_to(root).parts[0] for image, _ in stills(root).pairs)
    except DataError:
        found = Counter()
    known = dict(part.sets)
    lines = []
    for name in (*known, *sorted(found.keys() - known.keys())):
        of = f" of {known[name]:,}" if name in known else ""
        state = State.OPTIONAL if not found[name] else State.PRESENT
        lines.append(Entry(f"{name}/", state, f"{found[name]:,}{of} images with masks"))
    if not found:
        lines.append(
            Entry("<set>/<images>/*.jpg + <masks>/*.png", State.MISSING, "at least one of these data sets, or your own")
        )
    return CheckResult(tuple(lines), missing=() if found else ("DUTS-TR/DUTS-TR-Image",))


@_check_part.register
def _(part: UserFolder, root: Path) -> CheckResult:
    frames, masks = (first_existing(root, places) for places in (("frames", "JPEGImages"), ("masks", "Annotations")))
    single = bool(frames and not folders(frames) and stems(frames))
    names = [root.name] if single else [path.name for path in folders(frames)]
    files = sorted(stems(root / "videos", VIDEOS))
    masked = {path.name for path in folders(masks)} | stems(masks or root / "masks", {".png"}).keys()
    none = State.MISSING if not names and not files else State.OPTIONAL
    lines = [
        Entry("frames/<video>/*.jpg", State.PRESENT if names else none, _count(len(names), "video")),
        Entry("videos/<video>.mp4", State.PRESENT if files else State.OPTIONAL, _count(len(files), "video")),
        Entry(
            "masks/<video>/*.png",
            State.PRESENT if masked else State.MISSING,
            "" if single else f"{len(masked):,} videos",
        ),
    ]
    for name in part.lists:
        there = (root / name).is_file()
        text = _count(len(read_names(root / name)), "video") if there else "missing: all videos are used"
        lines.append(Entry(name, State.PRESENT if there else State.OPTIONAL, text))
    unknown = [] if single else sorted(masked - {*names, *files})
    faults = (f"masks: no video exists for the masks of {_first_few(unknown)}",) if unknown else ()
    missing = [*([] if names or files else ["frames"]), *([] if masked else ["masks"])]
    return CheckResult(tuple(lines), faults, tuple(missing))


@_check_part.register
def _(part: Generated, root: Path) -> CheckResult:
    there = (root / part.note).is_file()
    return CheckResult(
        (Entry(part.note, State.PRESENT if there else State.OPTIONAL, "" if there else "generated on first use"),)
    )


def _check_list(names: SequenceList, root: Path) -> tuple[Entry, dict[str, frozenset[str] | None], list[str]]:
    """Return the entry of a list, its sequences, and its faults."""
    path = first_existing(root, names.paths)
    if path is None:
        return Entry(" or ".join(names.paths), State.MISSING, ""), {}, []
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


def _official(part: VideoFolders, count: int) -> int:
    """Return the official number of frames if `count` is the official number of sequences, else 0 (unknown)."""
    whole = all(names.frames for names in part.lists)
    same = count == sum(max(names.sequences, default=0) for names in part.lists)
    return sum(names.frames or 0 for names in part.lists) if whole and same else 0


def _count_entry(kind: str, folder: str, numbers: list[int], official: int) -> Entry:
    total, there = sum(numbers), sum(bool(number) for number in numbers)
    enough = there == len(numbers) and total >= official
    state = State.MISSING if not total else State.PRESENT if enough else State.PARTIAL
    of = f" of {official:,}" if official else ""
    text = f"{total:,}{of} {kind}, {there:,} of {len(numbers):,} sequences" if numbers else ""
    return Entry(f"{folder}/<sequence>/*.{'jpg' if kind == 'frames' else 'png'}", state, text)


def _find_gaps(
    part: VideoFolders, name: str, needed: frozenset[str] | None, images: frozenset[str], masks: frozenset[str]
) -> list[str]:
    """Return faults for the frames without masks and the masks without frames of a sequence."""
    frames = (needed or frozenset()) | masks
    wanted = {
        "all": images,
        "first": frozenset(sorted(images)[:1]),
        "listed": needed or frozenset(),
        "some": frozenset(),
    }[part.masked]
    faults = []
    if images and (lost := sorted(frames - images)):
        faults.append(f"{part.frames}/{name}: missing frames: {_first_few(lost)}")
    if masks and (lost := sorted(wanted - masks)):
        faults.append(f"{part.masks}/{name}: missing masks: {_first_few(lost)}")
    return faults


def _find_2016_masks(part: VideoFolders, root: Path, names: Iterable[str]) -> list[str]:
    """Return a fault if masks are from DAVIS 2016, with one white object, instead of from DAVIS 2017."""
    firsts = [mask for name in names if (mask := next(iter(stems(root / (part.masks or "") / name).values()), None))]
    found = [mask for mask in firsts if _is_white(mask)]
    if not found:
        return []
    which = found[0].relative_to(root / (part.masks or ""))
    return [
        f"{part.masks}: black and white masks, as in DAVIS 2016, in {_count(len(found), 'sequence')} ({which}, …):"
        " move the folder away and unpack DAVIS 2017, whose masks serve both years"
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
        return False  # `verification` reports damaged files


def _images_entry(place: str, there: Set[str], wanted: Set[str]) -> Entry:
    state = State.MISSING if not there else State.PARTIAL if wanted - there else State.PRESENT
    of = f" of {len(wanted):,}" if wanted and wanted is not there else ""
    return Entry(f"{place}*.jpg", state, f"{len(wanted & there):,}{of} images" if there else "")


def _first_few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
