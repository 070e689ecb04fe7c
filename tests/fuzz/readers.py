"""What reads files of strangers: sound samples of each kind, and how they are read to the end."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save
from torch import nn

from tests.fuzz.damage import damaged, damaged_json
from tests.video.clips import encode, moving_square
from voslab.core.archive import find_tensors, read_archive
from voslab.core.weights import load_tensors
from voslab.dashboard.page import Section
from voslab.dashboard.runs import read_runs
from voslab.dashboard.views import VIEWS
from voslab.data.preparation.archives import Limits, members, unpack
from voslab.data.preparation.listing import read_annotated, read_names
from voslab.data.sources.coco import COCOStills, build_index
from voslab.data.sources.ovis import ovis
from voslab.data.sources.youtube_vos import youtube_vos
from voslab.reporting.page import page, table_csv
from voslab.reporting.study_files import read_study
from voslab.video import MaskOptions, open_video, read_image, read_mask, read_masks
from voslab.video.codec_reader import codec_frames
from voslab.video.images import image_size
from voslab.video.mask_formats.rle import decode, pack

Read = Callable[[Path], None]


@dataclass(frozen=True)
class Reader:
    """`files` draws a file's name and content; `read` reads it, in a folder that holds nothing else."""

    files: st.SearchStrategy[tuple[str, bytes]]
    read: Read


def _named(samples: Mapping[str, bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    return damaged(list(samples.values())).map(lambda found: (list(samples)[found[0]], found[1]))


def video(folder: Path) -> Reader:
    """Plain frames of seven kinds of files."""
    images = moving_square(8, (32, 48))
    kinds: dict[str, dict[str, Any]] = {
        "a.mp4": {},
        "front.mp4": {"muxer": {"movflags": "faststart"}},
        "deep.mp4": {"pixels": "yuv420p10le"},
        "a.mkv": {},
        "a.avi": {"codec": "mpeg4", "bf": "0", "qscale": "3"},
        "a.webm": {"codec": "libvpx-vp9"},
        "a.h264": {},
    }
    samples = {name: encode(folder / name, images, **options).read_bytes() for name, options in kinds.items()}

    def read(path: Path) -> None:
        found = open_video(path)
        for place, frame in enumerate(found):
            assert frame.index == place
            assert frame.image.shape == (*found.size, 3)

    return Reader(_named(samples), read)


def coded_video(folder: Path) -> Reader:
    """Frames with their codec data."""
    images = moving_square(8, (32, 48))
    samples = {
        "a.mp4": encode(folder / "a.mp4", images, x264opts="ref=2").read_bytes(),
        "a.avi": encode(folder / "a.avi", images, "mpeg4", bf="0", qscale="3").read_bytes(),
    }

    def read(path: Path) -> None:
        for frame in codec_frames(path):
            assert frame.codec is not None
            assert frame.codec.motion is not None
            assert torch.isfinite(frame.codec.motion).all()

    return Reader(_named(samples), read)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def image(folder: Path) -> Reader:
    """Images and masks of every mode and format."""
    grey = Image.fromarray((np.arange(24 * 32) % 5).reshape(24, 32).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    samples = {
        "rgb.png": _saved(grey.convert("RGB"), "PNG", exif=exif),
        "palette.png": _saved(grey.convert("P"), "PNG", transparency=1),
        "deep.png": _saved(Image.fromarray(np.asarray(grey).astype(np.uint16) * 300), "PNG"),
        "turned.jpg": _saved(grey, "JPEG", exif=exif),
        "progressive.jpg": _saved(grey.convert("RGB"), "JPEG", progressive=True),
        "cmyk.jpg": _saved(grey.convert("CMYK"), "JPEG"),
        "a.tif": _saved(grey, "TIFF", compression="tiff_lzw"),
        "a.webp": _saved(grey.convert("RGB"), "WEBP", lossless=True),
    }

    def read(path: Path) -> None:
        size = image_size(path)
        pixels = read_image(path)
        assert pixels.shape == (*size, 3)
        assert read_mask(path).shape == size

    return Reader(_named(samples), read)


def archive(folder: Path) -> Reader:
    """Archives of six kinds, unpacked; nothing may appear beside the target."""
    files = {"a/one.txt": b"one" * 99, "a/b/two.txt": bytes(999), "three": b"\0"}
    samples: dict[str, bytes] = {}
    for name, packing in (("stored.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED)):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", packing) as packed:
            for inside, data in files.items():
                packed.writestr(inside, data)
        samples[name] = content.getvalue()
    for kind in ("", "gz", "bz2", "xz"):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode=f"w:{kind}" if kind else "w") as tar:
            for inside, data in files.items():
                entry = tarfile.TarInfo(inside)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        samples[f"a.tar{kind}"] = content.getvalue()

    def read(path: Path) -> None:
        limits = Limits(members=100, total=1 << 20)
        assert sum(member.size for member in members(path, limits)) <= limits.total
        try:
            unpack(path, path.parent / "target", lambda name: name, limits)
        finally:
            assert {beside.name for beside in path.parent.iterdir()} <= {path.name, "target"}

    return Reader(_named(samples), read)


def checkpoint(folder: Path) -> Reader:
    """Checkpoints of ours, of old torch, and safetensors."""
    network = nn.Linear(3, 5)
    tensors = {f"segmenter.{key}": value.detach().clone() for key, value in network.state_dict().items()}
    metadata = {"method": "crvos", "network": {"width": 8}, "engine": {"size": 60, "precision": "fp32"}}
    samples = {"a.safetensors": save(tensors, {"vos": json.dumps(metadata)})}
    for name, new in (("a.ckpt", True), ("old.pth", False)):
        file = io.BytesIO()
        torch.save({"state_dict": tensors, "vos": metadata, "epoch": 3}, file, _use_new_zipfile_serialization=new)
        samples[name] = file.getvalue()

    def read(path: Path) -> None:
        found = find_tensors(read_archive(path))
        ours = {key.removeprefix("segmenter."): value for key, value in found.items()}
        load_tensors(network, ours, path)
        assert all(torch.isfinite(value).all() for value in network.state_dict().values())

    return Reader(_named(samples), read)


def _tree(folder: Path, *places: str) -> None:
    for place in places:
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ones((4, 6), np.uint8)).save(file)


def _segmentations() -> list[Any]:
    polygon = [[0, 0, 5, 0, 5, 3, 0, 3]]
    packed = pack(polygon, (4, 6), "sample").decode()
    return [polygon, {"size": [4, 6], "counts": packed}, {"size": [4, 6], "counts": [4, 8, 12]}]


def coco_json(folder: Path) -> Reader:
    """COCO's annotations, and the masks in them."""
    images = [{"id": 1, "file_name": "1.png", "height": 4, "width": 6}]
    annotations = [
        {"id": 7 + place, "image_id": 1, "segmentation": one, "iscrowd": 0, "area": 3}
        for place, one in enumerate(_segmentations())
    ]
    content = {"images": images, "annotations": annotations}

    def read(path: Path) -> None:
        _tree(path.parent, "1.png")
        index = build_index(path)
        if len(index.names):
            assert COCOStills(path.parent, index, np.arange(1)).load(0).labels.shape == (4, 6)
        read_annotated(path)

    return Reader(st.tuples(st.just("instances.json"), damaged_json(content)), read)


def ovis_json(folder: Path) -> Reader:
    """OVIS' annotations, and the masks in them."""
    videos = [{"id": 1, "file_names": ["a/1.png", "a/2.png", "a/3.png"], "height": 4, "width": 6, "length": 3}]
    content = {"videos": videos, "annotations": [{"id": 3, "video_id": 1, "segmentations": _segmentations()}]}

    def read(path: Path) -> None:
        _tree(path.parent, *(f"train/a/{number}.png" for number in (1, 2, 3)))
        for single in (True, False):
            for sequence in ovis(path.parent, single=single):
                assert all(sequence.labels(index) is not None for index in range(len(sequence)))
        read_annotated(path)

    return Reader(st.tuples(st.just("annotations_train.json"), damaged_json(content)), read)


def youtube_json(folder: Path) -> Reader:
    """YouTube-VOS' list of objects."""
    content = {"videos": {"a": {"objects": {"1": {"category": "dog", "frames": ["00000", "00005"]}}}}}

    def read(path: Path) -> None:
        for kind in ("JPEGImages", "Annotations"):
            _tree(path.parent, *(f"train/{kind}/a/{number:05}.png" for number in (0, 5, 10)))
        path.rename(path.parent / "train" / "meta.json")
        read_names(path.parent / "train" / "meta.json")
        for sequence in youtube_vos(path.parent):
            assert sequence.starts is not None
            assert all(frame < len(sequence) for frame in sequence.starts.values())

    return Reader(st.tuples(st.just("meta.json"), damaged_json(content)), read)


def rle(folder: Path) -> Reader:
    """Segmentations alone: packed runs, numbers, polygons."""
    samples = {"packed": _segmentations()[1]["counts"].encode(), "numbers": bytes([4, 8, 12])}

    def read(path: Path) -> None:
        raw, size = path.read_bytes(), (4, 6)
        counts = raw if path.name == "packed" else [*raw]
        assert decode(pack({"size": size, "counts": counts}, size, "here"), size, "here").shape == size
        if len(raw) >= 6:
            assert pack([[*raw][: len(raw) // 2 * 2]], size, "here")

    return Reader(_named(samples), read)


def given_annotations(folder: Path) -> Reader:
    """Masks that a user gives as annotations of COCO and LabelMe."""
    image = {"id": 1, "file_name": "1.png", "height": 4, "width": 6}
    categories = [{"id": 2, "name": "dog"}]
    annotations = [
        {"id": place, "image_id": 1, "category_id": 2, "segmentation": one, "track_id": 3 + place}
        for place, one in enumerate(_segmentations())
    ]
    corners = [[0, 0], [5, 0], [5, 3]]
    shapes = [
        {"label": "dog", "group_id": 1, "points": corners[:size], "shape_type": kind}
        for kind, size in (("polygon", 3), ("rectangle", 2), ("circle", 2), ("point", 1))
    ]
    contents = (
        {"images": [image], "categories": categories, "annotations": annotations},
        {"shapes": shapes, "imagePath": "1.png", "imageHeight": 4, "imageWidth": 6},
    )

    def read(path: Path) -> None:
        for options in (MaskOptions(), MaskOptions(void=3, resize=True)):
            for labels in read_masks(path, size=(4, 6), options=options).values():
                assert labels.shape == (4, 6)

    files = st.one_of(*(damaged_json(content) for content in contents))
    return Reader(st.tuples(st.just("given.json"), files), read)


def given_polygons(folder: Path) -> Reader:
    """Masks that a user gives as YOLO polygons."""
    samples = {
        "given.txt": b"0 0.1 0.1 0.9 0.1 0.9 0.8\n3 0.2 0.2 0.5 0.2 0.5 0.6 0.2 0.6\n",
        "box.txt": b"0 .5 .5 .2 .2\n",
    }

    def read(path: Path) -> None:
        for labels in read_masks(path, size=(4, 6)).values():
            assert labels.shape == (4, 6)

    return Reader(_named(samples), read)


def run_folder(folder: Path) -> Reader:
    """Files of a run, shown on the dashboard."""
    picture = Image.fromarray((np.arange(24 * 32) % 200).reshape(24, 32).astype(np.uint8))
    samples = {
        "metrics.csv": b"step,train/loss,val/J&F-Mean\n0,2.0,\n1,1.0,\n1,,0.5\n2,inf,nan\n",
        "per_sequence.csv": b"sequence,object,J&F-Mean\ndog,1,0.2\ndog,2,0.4\ncow,1,nan\n",
        "metrics.json": b'{"J&F-Mean": 0.625, "frames_per_second": 3.0, "J-Mean": null}',
        "job.json": b'{"number": 0, "choices": ["seed=1"], "command": []}',
        "dog.png": _saved(picture, "PNG"),
        "sheet.jpg": _saved(picture, "JPEG"),
    }
    inside = {"metrics.csv": "logs", "dog.png": "gallery"}

    def read(path: Path) -> None:
        run = path.parent / "run"
        (run / inside.get(path.name, "")).mkdir(parents=True)
        path.rename(run / inside.get(path.name, "") / path.name)
        if path.name != "metrics.json":
            (run / "metrics.json").write_text('{"J&F-Mean": 0.5}')
        sections = Section(read_runs(path.parent), count()).render(VIEWS)
        assert "<section>" in sections

    return Reader(_named(samples), read)


def record_json(folder: Path) -> Reader:
    """Records of a study, shown on its page and on the dashboard."""
    content = {
        "time": "",
        "kind": "evaluate",
        "command": ["python"],
        "commit": "abc",
        "versions": {"python": "3.11"},
        "hardware": {"cpu": "x", "cores": 2, "threads": 2, "gpus": []},
        "config": {"seed": 0},
        "masks": "00",
        "data": {"sequences": 1, "frames": 2, "fingerprint": "00"},
        "metrics": {"J&F-Mean": 0.5, "seconds": 2},
        "per_sequence": [{"sequence": "dog", "object": 1, "J&F-Mean": 0.5}],
    }
    study = {
        "title": "A study",
        "question": "What?",
        "columns": ["J&F-Mean", "seconds"],
        "rows": {"one": {"label": "one", "records": ["a"], "paper": {"J&F-Mean": 50}}},
        "figures": {"bars": {"kind": "sequences", "caption": "Bars"}},
    }

    def read(path: Path) -> None:
        (path.parent / "records").mkdir()
        (path.parent / "records" / "a.json").write_text(json.dumps(content))
        (path.parent / "study.yaml").write_text(json.dumps(study))
        path.rename(path.parent / ("records" if path.name == "a.json" else "") / path.name)
        found = read_study(path.parent)
        assert page(found)
        assert table_csv(found)
        Section(read_runs(path.parent), count()).render(VIEWS)

    files = st.tuples(st.just("a.json"), damaged_json(content)) | st.tuples(st.just("study.yaml"), damaged_json(study))
    return Reader(files, read)


READERS = {
    one.__name__: one
    for one in (
        *(
            video,
            coded_video,
            image,
            archive,
            checkpoint,
            coco_json,
            ovis_json,
            youtube_json,
            rle,
            run_folder,
            record_json,
        ),
        *(given_annotations, given_polygons),
    )
}
