"""Describes every supported data set: official tree and counts, download pages, and archive contents.

Archive names are those of public download scripts. `fewshot_data.zip`, ECSSD, YouTube-VOS and OVIS were not
available for testing, so members are matched by folder name at any depth. The counts of DAVIS 2016 were verified; all
others come from papers and web pages. Licences are abbreviated; the official page is authoritative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from voslab.data.preparation.layout import (
    AnnotatedImages,
    Archive,
    DataSet,
    Generated,
    ImageMaskPairs,
    SequenceList,
    UserFolder,
    VideoFolders,
)

YEARS = ("2018", "2019")
"""Subfolders of YouTube-VOS, if several releases are installed."""
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
    """Describe DAVIS 2016 or 2017. The archives of both years contain the lists of 2016."""
    lists = []
    for split in splits:
        places = (f"ImageSets/{year}/{split}.txt", *([f"ImageSets/{resolution}/{split}.txt"] if year == 2016 else []))
        sequences, frames = _DAVIS_NUMBERS.get((year, split), (None, None))
        lists.append(SequenceList(places, () if sequences is None else (sequences,), frames))
    tests = [split for split in splits if split.startswith("test-")]
    size = "480p" if resolution == "480p" else "Full-Resolution"
    names = [f"DAVIS-2017-{split}-{size}.zip" for split in tests or ["trainval"]]
    archives = [Archive(name, f"{_ETHZ}/{name}", _DAVIS_FILES) for name in names]
    return DataSet(
        title=f"DAVIS {year}" + "".join(f" {split}" for split in tests),
        root=root,
        components=(
            VideoFolders(
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
    """Describe YouTube-VOS 2018 or 2019. `…_all_frames` splits share the masks of the 6 fps split."""
    bases = [root, *(root / name for name in YEARS)] if year is None else [root / str(year)]
    base = next((base for base in bases if any((base / split).is_dir() for split in splits)), bases[0])
    numbers = {"train": (3471,), "valid": (474, 507), "test": (508, 541)}
    parts, archives = [], []
    for split in splits:
        twin = split.removesuffix("_all_frames")
        names = SequenceList((f"{twin}/meta.json",), numbers.get(twin, ()))
        masked: Literal["listed", "some"] = "listed" if twin == "train" else "some"
        if twin == split or twin not in splits:
            parts.append(VideoFolders((names,), f"{twin}/JPEGImages", f"{twin}/Annotations", masked))
        if twin != split:
            parts.append(VideoFolders((names,), f"{split}/JPEGImages", None))
        archives += [twin, split]
    page = "https://youtube-vos.org/dataset/vos/"
    files = r"((?:JPEGImages|Annotations)/.+|meta\.json)"
    return DataSet(
        title=f"YouTube-VOS {', '.join(splits)}",
        root=base,
        components=tuple(parts),
        page=page,
        licence="annotations CC BY 4.0; for non-commercial research",
        archives=tuple(
            Archive(f"{name}.zip", page, files, rf"{name}/\1", (f"{name}/",)) for name in dict.fromkeys(archives)
        ),
    )


def ovis(root: Path, splits: tuple[str, ...], annotations: str | None = None) -> DataSet:
    """Describe OVIS. Only `train` has public annotations, in a separate file that is not an archive."""
    page = "https://songbai.site/ovis/"
    parts = []
    for split in splits:
        names = [f"annotations_{split}.json", f"{split}.json", f"instances_{split}_sub.json"]
        names = names if annotations is None else [annotations]
        places = (*names, *(f"annotations/{name}" for name in names), f"{split}/instances.json")
        parts.append(AnnotatedImages(places, (f"{split}/JPEGImages", split), "videos", {"train": 607}.get(split, 0)))
    frames = r"([0-9a-z]+/img_\d+\.jpg)"
    archives = (Archive(f"{split}.zip", page, frames, rf"{split}/\1", (f"{split}/",)) for split in splits)
    return DataSet("OVIS", root, tuple(parts), page, "for non-commercial research", tuple(archives))


def coco(root: Path, splits: tuple[str, ...], subset: bool = False) -> DataSet:
    """Describe COCO 2017, images and instance annotations."""
    parts, archives = [], []
    for split in splits:
        file, official = f"annotations/instances_{split}.json", {"train2017": 118287, "val2017": 5000}.get(split, 0)
        parts.append(AnnotatedImages((file,), (split,), "images", official, subset))
        images = f"http://images.cocodataset.org/zips/{split}.zip"
        archives.append(Archive(f"{split}.zip", images, rf"({split}/[^/]+\.jpg)", provides=(f"{split}/",)))
        name = "annotations_trainval2017.zip"
        instances, to = rf"(instances_{split}\.json)", r"annotations/\1"
        url = f"http://images.cocodataset.org/annotations/{name}"
        archives.append(Archive(name, url, instances, to, ("annotations/",)))
    page, licence = "https://cocodataset.org/#download", "annotations CC BY 4.0; images have individual licences"
    return DataSet("COCO 2017", root, tuple(parts), page, licence, tuple(archives))


def stills(root: Path, splits: tuple[str, ...]) -> DataSet:
    """Describe flat data sets of images and masks. Any one of them is enough, or another with the same layout."""
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
    return DataSet(
        "stills",
        root,
        (ImageMaskPairs(known),),
        f"{duts}/ and the pages of the others",
        "see the page of each",
        archives,
    )


def folder(root: Path, splits: tuple[str, ...]) -> DataSet:
    """Describe the user's own videos."""
    return DataSet("your own data", root, (UserFolder(tuple(f"{split}.txt" for split in splits if split)),))


def generated(root: Path, splits: tuple[str, ...]) -> DataSet:
    """Describe a data set that is generated on first use."""
    return DataSet("generated videos", root, (Generated("generated.json"),))


_DESCRIPTIONS: dict[str, tuple[Callable[..., DataSet], str, tuple[str, ...]]] = {
    "voslab.data.sources.davis.davis": (davis, "train", ("year", "resolution")),
    "voslab.data.sources.youtube_vos.youtube_vos": (youtube_vos, "train", ("year",)),
    "voslab.data.sources.ovis.ovis": (ovis, "train", ("annotations",)),
    "voslab.data.sources.coco.coco": (coco, "train2017", ("subset",)),
    "voslab.data.sources.stills.stills": (stills, "", ()),
    "voslab.data.sources.folder.folder": (folder, "", ()),
    "voslab.data.sources.pairs.davis_pairs": (generated, "val", ()),
    "voslab.data.sources.synthetic.generated.generated": (generated, "train", ()),
    "voslab.data.sources.synthetic.lookalikes.lookalikes": (generated, "train", ()),
}
"""Source function -> function that describes it, default split, and the arguments passed on."""


def configured_data_sets(config: Any) -> tuple[DataSet, ...]:
    """Return the data sets that a data configuration reads, in order.

    Args:
        config: The group `data` as plain dicts and lists.
    """
    splits: dict[tuple[str, str, tuple[tuple[str, Any], ...]], list[str]] = {}
    for source in _sources(config):
        describe, default_split, kept = _DESCRIPTIONS[source["_target_"]]
        defaults = {name: signature(describe).parameters[name].default for name in kept}
        # A source that states a default, or leaves the choice open, is the same data set as one that does not.
        arguments = tuple(
            (name, source[name]) for name in kept if source.get(name, defaults[name]) not in (None, defaults[name])
        )
        found = splits.setdefault((source["_target_"], source["root"], arguments), [])
        split = source.get("split") or default_split
        if split not in found:
            found.append(split)
    return tuple(
        _DESCRIPTIONS[target][0](Path(root), tuple(names), **dict(arguments))
        for (target, root, arguments), names in splits.items()
    )


def all_data_sets(data: Path, cache: Path) -> dict[str, DataSet]:
    """Return all data sets at their default paths, by the name of their configuration.

    Args:
        data: Folder of all data sets.
        cache: Folder of generated data sets.
    """
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
        if config.get("_target_") in _DESCRIPTIONS and "root" in config:
            yield config
        for value in config.values():
            yield from _sources(value)
    elif isinstance(config, list):
        for value in config:
            yield from _sources(value)
