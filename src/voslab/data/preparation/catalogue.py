"""What is known of every data set: its official tree and numbers, where it comes from, and what its archives hold.

Archive names are the published ones as public download scripts have them; of `fewshot_data.zip`, the two zips of ECSSD
and all of YouTube-VOS and OVIS only the names were at hand, not the files. So members are placed by the folders that
their names contain, however deep those lie in the archive. Numbers of DAVIS 2016 are counted, the others are those of
papers and pages. Licences are told in short; the page has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from voslab.data.preparation.layout import Annotated, Archive, DataSet, Made, Names, Own, Pairs, Videos

YEARS = ("2018", "2019")
"""Folders of YouTube-VOS that hold one release each, where there are several."""
_DAVIS_FILES = r"((?:JPEGImages|Annotations|ImageSets)/.+)"
_ETHZ = "https://data.vision.ee.ethz.ch/csergi/share/davis"
_DAVIS_2016 = Archive("DAVIS-data.zip", "https://graphics.ethz.ch/Downloads/Data/Davis/DAVIS-data.zip", _DAVIS_FILES)
_DAVIS_NUMBERS = {
    (2016, "train"): (30, 2079),
    (2016, "val"): (20, 1376),
    (2017, "train"): (60, 4209),
    (2017, "val"): (30, 1999),
    (2017, "test-dev"): (30, 2086),
}


def davis(root: Path, splits: tuple[str, ...], year: int = 2017, resolution: str = "480p") -> DataSet:
    """DAVIS 2016 or 2017; lists of 2016 come with both years' archives."""
    lists = []
    for split in splits:
        places = (f"ImageSets/{year}/{split}.txt", *([f"ImageSets/{resolution}/{split}.txt"] if year == 2016 else []))
        sequences, frames = _DAVIS_NUMBERS.get((year, split), (None, None))
        lists.append(Names(places, () if sequences is None else (sequences,), frames))
    tests = [split for split in splits if split.startswith("test-")]
    size = "480p" if resolution == "480p" else "Full-Resolution"
    names = [f"DAVIS-2017-{split}-{size}.zip" for split in tests or ["trainval"]]
    archives = [Archive(name, f"{_ETHZ}/{name}", _DAVIS_FILES) for name in names]
    return DataSet(
        title=f"DAVIS {year}" + "".join(f" {split}" for split in tests),
        root=root,
        parts=(
            Videos(
                tuple(lists),
                f"JPEGImages/{resolution}",
                f"Annotations/{resolution}",
                masked="first" if tests else "all",
                palette=year == 2017 and not tests,
            ),
        ),
        page=f"https://davischallenge.org/davis{year}/code.html",
        licence="CC BY-NC 4.0; a few videos have terms of their own (SOURCES.md in the archive)",
        archives=(_DAVIS_2016, *archives) if year == 2016 else tuple(archives),
    )


def youtube_vos(root: Path, splits: tuple[str, ...], year: int | None = None) -> DataSet:
    """YouTube-VOS 2018 or 2019; the masks of `…_all_frames` are those of the 6 fps split."""
    bases = [root, *(root / name for name in YEARS)] if year is None else [root / str(year)]
    base = next((base for base in bases if any((base / split).is_dir() for split in splits)), bases[0])
    numbers = {"train": (3471,), "valid": (474, 507), "test": (508, 541)}
    parts, archives = [], []
    for split in splits:
        twin = split.removesuffix("_all_frames")
        names = Names((f"{twin}/meta.json",), numbers.get(twin, ()))
        masked: Literal["listed", "some"] = "listed" if twin == "train" else "some"
        if twin == split or twin not in splits:
            parts.append(Videos((names,), f"{twin}/JPEGImages", f"{twin}/Annotations", masked))
        if twin != split:
            parts.append(Videos((names,), f"{split}/JPEGImages", None))
        archives += [twin, split]
    page = "https://youtube-vos.org/dataset/vos/"
    files = r"((?:JPEGImages|Annotations)/.+|meta\.json)"
    return DataSet(
        title=f"YouTube-VOS {', '.join(splits)}",
        root=base,
        parts=tuple(parts),
        page=page,
        licence="annotations CC BY 4.0; for non-commercial research",
        archives=tuple(
            Archive(f"{name}.zip", page, files, rf"{name}/\1", (f"{name}/",)) for name in dict.fromkeys(archives)
        ),
    )


def ovis(root: Path, splits: tuple[str, ...], annotations: str | None = None) -> DataSet:
    """OVIS; only `train` has public annotations. Those are no archive but a file of their own."""
    page = "https://songbai.site/ovis/"
    parts = []
    for split in splits:
        names = [f"annotations_{split}.json", f"{split}.json", f"instances_{split}_sub.json"]
        names = names if annotations is None else [annotations]
        places = (*names, *(f"annotations/{name}" for name in names), f"{split}/instances.json")
        parts.append(Annotated(places, (f"{split}/JPEGImages", split), "videos", {"train": 607}.get(split, 0)))
    frames = r"([0-9a-z]+/img_\d+\.jpg)"
    archives = (Archive(f"{split}.zip", page, frames, rf"{split}/\1", (f"{split}/",)) for split in splits)
    return DataSet("OVIS", root, tuple(parts), page, "for non-commercial research", tuple(archives))


def coco(root: Path, splits: tuple[str, ...], subset: bool = False) -> DataSet:
    """COCO 2017, pictures and instances."""
    parts, archives = [], []
    for split in splits:
        file, official = f"annotations/instances_{split}.json", {"train2017": 118287, "val2017": 5000}.get(split, 0)
        parts.append(Annotated((file,), (split,), "images", official, subset))
        pictures = f"http://images.cocodataset.org/zips/{split}.zip"
        archives.append(Archive(f"{split}.zip", pictures, rf"({split}/[^/]+\.jpg)", gives=(f"{split}/",)))
        name = "annotations_trainval2017.zip"
        instances, to = rf"(instances_{split}\.json)", r"annotations/\1"
        url = f"http://images.cocodataset.org/annotations/{name}"
        archives.append(Archive(name, url, instances, to, ("annotations/",)))
    page, licence = "https://cocodataset.org/#download", "annotations CC BY 4.0; pictures under licences of their own"
    return DataSet("COCO 2017", root, tuple(parts), page, licence, tuple(archives))


def stills(root: Path, splits: tuple[str, ...]) -> DataSet:
    """Flat sets of pictures and masks; any of them, and any other of such a layout, will do."""
    duts, ecssd = "http://saliencydetection.net/duts", "https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency"
    known = (("DUTS-TR", 10553), ("DUTS-TE", 5019), ("ECSSD", 1000), ("FSS-1000", 10000), ("HRSOD", 2010), ("BIG", 150))
    archives = (
        *(
            Archive(f"{name}.zip", f"{duts}/download/{name}.zip", rf"({name}-(?:Image|Mask)/[^/]+)", rf"{name}/\1")
            for name in ("DUTS-TR", "DUTS-TE")
        ),
        Archive("images.zip", f"{ecssd}/data/ECSSD/images.zip", r"(images/\d+\.jpg)", r"ECSSD/\1"),
        Archive(
            "ground_truth_mask.zip",
            f"{ecssd}/data/ECSSD/ground_truth_mask.zip",
            r"(ground_truth_mask/\d+\.png)",
            r"ECSSD/\1",
        ),
        Archive("fewshot_data.zip", "https://github.com/HKUSTCV/FSS-1000", r"([^/]+/\d+\.(?:jpg|png))", r"FSS-1000/\1"),
    )
    return DataSet("stills", root, (Pairs(known),), f"{duts}/ and the pages of the others", "each its own", archives)


def folder(root: Path, splits: tuple[str, ...]) -> DataSet:
    """The user's own videos."""
    return DataSet("your own data", root, (Own(tuple(f"{split}.txt" for split in splits if split)),))


def generated(root: Path, splits: tuple[str, ...]) -> DataSet:
    """Made on first use."""
    return DataSet("generated videos", root, (Made("generated.json"),))


_OPENERS: dict[str, tuple[Callable[..., DataSet], str, tuple[str, ...]]] = {
    "voslab.data.sources.davis.davis": (davis, "train", ("year", "resolution")),
    "voslab.data.sources.youtube_vos.youtube_vos": (youtube_vos, "train", ("year",)),
    "voslab.data.sources.ovis.ovis": (ovis, "train", ("annotations",)),
    "voslab.data.sources.coco.coco": (coco, "train2017", ("subset",)),
    "voslab.data.sources.stills.stills": (stills, "", ()),
    "voslab.data.sources.folder.folder": (folder, "", ()),
    "voslab.data.sources.synthetic.generated.generated": (generated, "train", ()),
    "voslab.data.sources.synthetic.lookalikes.alike": (generated, "train", ()),
}
"""How a configuration's source is described: by what, its split where none is said, and the arguments that matter."""


def needed(config: Any) -> tuple[DataSet, ...]:
    """The data sets that the sources of a configuration of `data` read, as plain dicts and lists, in their order."""
    splits: dict[tuple[str, str, tuple[tuple[str, Any], ...]], list[str]] = {}
    for source in _sources(config):
        _, usual, kept = _OPENERS[source["_target_"]]
        arguments = tuple((name, source[name]) for name in kept if name in source)
        found = splits.setdefault((source["_target_"], source["root"], arguments), [])
        split = source.get("split") or usual
        if split not in found:
            found.append(split)
    return tuple(
        _OPENERS[target][0](Path(root), tuple(names), **dict(arguments))
        for (target, root, arguments), names in splits.items()
    )


def everything(data: Path, cache: Path) -> dict[str, DataSet]:
    """All data sets in their usual places below `data`, by the configuration that trains or tests on them."""
    davis_root, youtube_root = data / "DAVIS", data / "YouTube-VOS"
    return {
        "davis2016": davis(davis_root, ("train", "val"), 2016),
        "davis2017": davis(davis_root, ("train", "val"), 2017),
        "davis2017_testdev": davis(davis_root, ("test-dev",), 2017),
        "youtube_vos": youtube_vos(youtube_root, ("train",)),
        "youtube_vos_valid": youtube_vos(youtube_root, ("valid_all_frames",)),
        "ovis": ovis(data / "OVIS", ("train",)),
        "coco": coco(data / "COCO", ("train2017",)),
        "stills": stills(data / "stills", ("",)),
        "folder": folder(data / "folder", ("train", "val")),
        "generated": generated(cache / "generated", ("train", "val")),
    }


def _sources(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if config.get("_target_") in _OPENERS and "root" in config:
            yield config
        for value in config.values():
            yield from _sources(value)
    elif isinstance(config, list):
        for value in config:
            yield from _sources(value)
