"""Masks and predictions as people hand them in, through the command line: read as meant, or refused with a way out."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.video.clips import encode, moving_square
from tests.video.test_video_writer import audio_packets, with_audio
from voslab.core import DataError
from voslab.data.preparation.archives import unpack
from voslab.predictor import Predictor
from voslab.video import MaskOptions, open_video, palette, read_mask, write_mask

CASES = Path(__file__).parent / "cases"
SIZE = (180, 320)
Segment = Callable[..., tuple[str, np.ndarray, list[str]]]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("cases") / "clip.mp4", moving_square(3, SIZE))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """Collect the warnings of the package; programs replace the handlers of the root logger."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("voslab"), Collect(logging.WARNING)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def segmented(run: Run, clip: Path, tmp_path: Path, warned: list[str]) -> Segment:
    """Segment the clip from a mask: returns the error, the first mask and the warnings."""

    def segment(mask: Path, *options: str) -> tuple[str, np.ndarray, list[str]]:
        warned.clear()
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        arguments = ("model=copy_first", "save=[masks]", f"video={clip}", f"mask={mask}", f"output={output}")
        error = run("segment", *arguments, *options)
        first = output / "masks" / "00000.png"
        return error, read_mask(first) if first.exists() else np.zeros(SIZE, np.int32), list(warned)

    return segment


@pytest.mark.parametrize("name", ["soft_rgb", "soft_grey", "soft_alpha"])
def test_a_soft_brush_is_one_object(segmented: Segment, name: str) -> None:
    error, first, said = segmented(CASES / "masks" / f"{name}.png")
    assert not error
    assert set(np.unique(first)) == {0, 255}
    assert iou(first > 0, read_mask(CASES / "mask.png") > 0) >= 0.9
    assert len(said) == 1
    assert f"{name}.png: soft" in said[0]
    assert "cut at half" in said[0]


@pytest.mark.parametrize("quality", [60, 90])
def test_a_soft_brush_in_a_jpeg_is_one_object(segmented: Segment, tmp_path: Path, quality: int) -> None:
    Image.open(CASES / "masks/soft_rgb.png").save(tmp_path / "soft.jpg", quality=quality)
    error, first, said = segmented(tmp_path / "soft.jpg")
    assert not error
    assert iou(first > 0, read_mask(CASES / "mask.png") > 0) >= 0.9
    assert set(np.unique(first)) == {0, 255}
    assert all("soft edges, cut at half" in line for line in said)


def test_a_dithered_palette_is_refused(segmented: Segment) -> None:
    error, _, _ = segmented(CASES / "masks/dithered_palette.png")
    assert "dithered_palette.png: 4 ids, 4 of them scattered over others: dithered colours?" in error


def test_colours_of_label_tools_are_objects_where_asked(segmented: Segment) -> None:
    mask = CASES / "masks_cvat/mask.png"
    error, _, _ = segmented(mask)
    assert "mask_colors=any" in error
    error, first, said = segmented(mask, "mask_colors=any")
    assert not error
    colours = np.asarray(Image.open(mask))
    assert np.array_equal(first == 1, (colours == (51, 221, 255)).all(2))
    assert np.array_equal(first == 2, (colours == (250, 50, 83)).all(2))
    assert said == [f"{mask}: every colour is an object: 1 = [51, 221, 255], 2 = [250, 50, 83]"]


def test_borders_of_255_are_void_or_noticed(segmented: Segment) -> None:
    mask = CASES / "masks_void/voc.png"
    error, first, said = segmented(mask)
    assert not error
    assert set(np.unique(first)) == {0, 1, 255}
    assert len(said) == 1
    assert "the object with id 255 is a thin border around others" in said[0]
    error, first, said = segmented(mask, "mask_void=255")
    assert (error, said) == ("", [])
    assert np.array_equal(first, np.where(read_mask(mask) == 255, 0, read_mask(mask)))


def test_one_folder_per_object(segmented: Segment) -> None:
    folder = CASES / "one_folder_per_object"
    error, first, said = segmented(folder)
    assert not error
    for identity in (1, 2):
        own = read_mask(folder / f"{identity:03d}/00000.png") > 0
        assert np.array_equal((first == identity), own)
    assert said == [f"{folder}: one mask per object: 1 = 001, 2 = 002"]


def test_an_inverted_mask_is_noticed(segmented: Segment, tmp_path: Path) -> None:
    write_mask(tmp_path / "inverted.png", 255 - read_mask(CASES / "mask.png"))
    error, first, said = segmented(tmp_path / "inverted.png")
    assert not error
    assert (first == 255).mean() > 0.9
    assert len(said) == 1
    assert "is the mask inverted?" in said[0]


def test_a_mask_of_another_size_names_the_option(segmented: Segment, tmp_path: Path) -> None:
    Image.open(CASES / "mask.png").resize((160, 90), Image.Resampling.NEAREST).save(tmp_path / "half.png")
    error, _, _ = segmented(tmp_path / "half.png")
    assert error.endswith("half.png: the mask is 160 x 90, the video 320 x 180; mask_resize=true scales it")
    error, first, _ = segmented(tmp_path / "half.png", "mask_resize=true")
    assert not error
    assert iou(first > 0, read_mask(CASES / "mask.png") > 0) > 0.9


def test_a_mask_that_is_all_void_says_so(segmented: Segment) -> None:
    error, _, _ = segmented(CASES / "mask.png", "mask_void=255")
    assert error.endswith("mask.png: there is no object in it, every pixel is 0 or void (mask_void=255)")


@pytest.mark.parametrize("option", ["mask_colors=all", "mask_void=0", "mask_void=white", "mask_resize=2"])
def test_options_are_checked(segmented: Segment, option: str) -> None:
    error, _, _ = segmented(CASES / "mask.png", option)
    assert error.startswith(option)


def test_the_api_reads_masks_like_the_command_line(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = Predictor.load(model="copy_first", device="cpu")

    def first(masks: object, **options: object) -> np.ndarray:
        return next(iter(predictor.segment(clip, masks, **options))).ids

    assert set(np.unique(first(CASES / "masks/soft_alpha.png"))) == {0, 255}
    assert set(np.unique(first({0: CASES / "masks_cvat/mask.png"}, mask_colors="any"))) == {0, 1, 2}
    voc = read_mask(CASES / "masks_void/voc.png")
    assert set(np.unique(first({0: voc}, mask_void=255))) == {0, 1}
    assert "thin border" not in caplog.text
    first({0: voc})
    assert "thin border" in caplog.text
    half = voc[::2, ::2]
    assert first({0: half}, mask_resize=True).shape == SIZE
    with pytest.raises(DataError, match="mask_colors=any"):
        first(CASES / "masks_cvat/mask.png")
    images = [np.zeros((*SIZE, 3), np.uint8)] * 2
    assert next(iter(predictor.segment(iter(images), {0: half}, mask_resize=True))).ids.shape == SIZE
    with pytest.raises(DataError, match="mask of frame 0 is 90x160"):
        list(predictor.segment(iter(images), {0: half}))


@pytest.mark.parametrize(
    "names",
    [
        [f"{5 * i + 1:08d}" for i in range(6)],
        [f"frame{i + 1:04d}" for i in range(6)],
        [f"7K7 é {i}_x" for i in "abcdef"],
    ],
    ids=["eight digits", "prefix", "letters"],
)
def test_names_of_frames_survive_and_can_be_scored(run: Run, tmp_path: Path, names: list[str]) -> None:
    root, video = tmp_path / "tree", "7K7 vid é"
    for index, image in enumerate(moving_square(6, (48, 64))):
        (root / "JPEGImages" / video).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "JPEGImages" / video / f"{names[index]}.jpg")
        labels = np.zeros((48, 64), np.uint8)
        labels[8:24, 4 : 16 + index] = 1
        write_mask(root / "Annotations" / video / f"{names[index]}.png", labels)
    (root / "JPEGImages" / video / "Thumbs.db").write_bytes(b"no image")
    given, output = root / "Annotations" / video / f"{names[0]}.png", tmp_path / "out"
    (tmp_path / "given").mkdir()
    shutil.copy(given, tmp_path / "given")
    frames = root / "JPEGImages" / video
    arguments = ("model=copy_first", "save=[masks]", f"video={frames}", f"mask={tmp_path / 'given'}")
    assert not run("segment", *arguments, f"output={output}")
    assert sorted(path.stem for path in (output / "masks").iterdir()) == sorted(names)
    scored = (f"predictions={output}", "data=folder", f"paths.folder={root}", "trainer=cpu")
    assert not run("evaluate", *scored, f"output={tmp_path / 'scores'}")
    assert (tmp_path / "scores/metrics.json").is_file()


def test_scoring_tells_what_is_odd(run: Run, tmp_path: Path, warned: list[str]) -> None:
    names = [f"{index:05d}" for index in range(5)]
    root = tmp_path / "tree"
    truth = np.zeros((48, 64), np.uint8)
    truth[8:24, 4:20], truth[30:40, 30:50] = 1, 2
    (root / "DAVIS/ImageSets/2017").mkdir(parents=True)
    videos = ("plain", "white", "surplus", "late", "named", "counted")
    (root / "DAVIS/ImageSets/2017/val.txt").write_text("\n".join(videos) + "\n")
    for video in videos:
        for index, image in enumerate(moving_square(5, (48, 64))):
            (root / "DAVIS/JPEGImages/480p" / video).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / "DAVIS/JPEGImages/480p" / video / f"{names[index]}.jpg")
            write_mask(root / "DAVIS/Annotations/480p" / video / f"{names[index]}.png", truth)
            found = {"white": np.where(truth, 255, 0), "surplus": np.where(truth == 2, 7, truth)}.get(video, truth)
            stem = {"named": f"mask_{index}", "counted": f"{index + 1:03d}"}.get(video, names[index])
            if (video, index) != ("late", 0):
                write_mask(tmp_path / "masks" / video / f"{stem}.png", found)
    scored = (f"predictions={tmp_path / 'masks'}", "data=davis2017", f"paths.data={root}", "trainer=cpu")
    assert not run("evaluate", *scored, f"output={tmp_path / 'scores'}")
    said = [line for line in warned if str(tmp_path) in line]
    expected = (
        "white/00000.png: the truth has the objects 1, 2, the prediction one id 255 (white)",
        "surplus/00000.png: id 7 of no object, scored as background (the truth has 1, 2)",
        "late: no mask of the first frame (00000), which is given and therefore not scored",
        "named: masks are named otherwise than the frames; mask_0.png is taken for frame 00000",
    )
    for line in expected:
        assert sum(line in one for one in said) == 1, (line, said)
    rows = (tmp_path / "scores/per_sequence.csv").read_text().splitlines()
    perfect = {row.split(",")[0] for row in rows if ",1,3,1.000000" in row}
    assert {"plain", "late", "named"} <= perfect
    shutil.rmtree(tmp_path / "masks/plain")
    assert "plain/00000.png: no such mask (sequence plain, frame 0 of 5)" in run(
        "evaluate", *scored, f"output={tmp_path}/x"
    )


def test_palette_colours_stay_ids(segmented: Segment, tmp_path: Path) -> None:
    labels = np.where(read_mask(CASES / "masks_cvat/mask.png", MaskOptions("any")), 3, 0)
    Image.fromarray(palette()[labels]).save(tmp_path / "colours.png")
    error, first, said = segmented(tmp_path / "colours.png")
    assert (error, said) == ("", [])
    assert np.array_equal(first, labels)


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_animations_are_videos(run: Run, tmp_path: Path, kind: str) -> None:
    images = moving_square(5, (48, 64))
    first, *rest = [Image.fromarray(image) for image in images]
    lossless = {"lossless": True} if kind == "webp" else {}
    first.save(
        tmp_path / f"a.{kind}", save_all=True, append_images=rest, duration=[100, 100, 300, 100, 100], **lossless
    )
    video = open_video(tmp_path / f"a.{kind}")
    assert (video.size, video.count) == ((48, 64), 5)
    assert kind == "gif" or abs(float(video.rate) - 50 / 7) < 0.01
    for frame, image in zip(video, images, strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < (8 if kind == "gif" else 1)
    mask = tmp_path / "mask.png"
    write_mask(mask, np.eye(48, 64, dtype=np.uint8))
    arguments = ("model=copy_first", f"video={tmp_path / f'a.{kind}'}", f"mask={mask}", f"output={tmp_path / 'out'}")
    assert not run("segment", *arguments)
    assert len(list((tmp_path / "out/masks").iterdir())) == 5


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_still_images_are_named_as_such(run: Run, tmp_path: Path, kind: str) -> None:
    Image.fromarray(moving_square(1, (48, 64))[0]).save(tmp_path / f"a.{kind}")
    error = run("segment", f"video={tmp_path}/a.{kind}", f"mask={CASES}/mask.png", f"output={tmp_path}/out")
    assert f"a.{kind}: a still image (" in error
    assert "video=FOLDER" in error


def test_addresses_keep_their_slashes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "video").mkdir()
    Image.fromarray(moving_square(1, (48, 64))[0]).save(tmp_path / "video" / "0.png")
    write_mask(tmp_path / "mask.png", np.eye(48, 64, dtype=np.uint8))
    address = "https://a.example/b.mp4"
    for arguments in (
        (f"video={tmp_path}/video", f"mask={address}"),
        (f"video={tmp_path}/video", f"mask={tmp_path}/mask.png", f"checkpoint={address}"),
    ):
        assert run("segment", *arguments, f"output={tmp_path}/out").startswith(f"{address}: an address, not a file")
    closed = "http://user:secret@127.0.0.1:1/b.mp4"
    error = run("segment", f"video={closed}", f"mask={CASES}/mask.png", f"output={tmp_path}/out")
    assert error == "http://127.0.0.1:1/b.mp4: cannot be opened (Connection refused)"


@pytest.mark.parametrize("names", [("DAVIS\\a\\0.png", "DAVIS\\b.txt"), ("DAVIS\\a\\", "DAVIS\\a\\0.png")])
def test_zips_with_backslashes_are_unpacked_as_folders(tmp_path: Path, names: tuple[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"" if name.endswith("\\") else b"content")
    unpack(tmp_path / "a.zip", tmp_path / "out", lambda name: name)
    assert (tmp_path / "out/DAVIS/a/0.png").read_bytes() == b"content"


@pytest.mark.parametrize(
    "names", [("a\\b", "c/d"), ("..\\a", "b"), ("C:\\a", "b"), ("\\a", "b"), ("a\\..\\..\\b", "c")]
)
def test_unsafe_zips_with_backslashes_are_refused_with_a_way_out(tmp_path: Path, names: tuple[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    with pytest.raises(DataError, match="refused; a Windows program made it: unpack it with 7-Zip, and pack it again"):
        unpack(tmp_path / "a.zip", tmp_path / "out", lambda name: name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("b_frames", "keys"), [(0, "ip"), (2, "ip"), (0, "every_k")])
def test_the_share_of_key_frames_is_printed(tmp_path: Path, b_frames: int, keys: str) -> None:
    clip = encode(tmp_path / "clip.mp4", moving_square(6, (48, 64)), bf=str(b_frames))
    write_mask(tmp_path / "mask.png", np.eye(48, 64, dtype=np.uint8))
    arguments = ("model=covos", "model/base=copy_first", f"video={clip}", f"mask={tmp_path / 'mask.png'}")
    arguments = (*arguments, f"model/keys={keys}")
    program = [sys.executable, "-m", "voslab", "segment", *arguments, f"output={tmp_path / 'out'}", "save=[masks]"]
    said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("key frames: "))
    assert ("of 6 (100%); no B-frame is propagated, so the result is that of the base" in line) == (
        b_frames == 0 and keys == "ip"
    )
    assert (line == "key frames: 2 of 6 (33%)") == (keys == "every_k")


@pytest.mark.parametrize(
    "model", [["model=copy_first"], ["model=covos", "model/base=copy_first"]], ids=["plain", "covos"]
)
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_overlays_keep_a_gap_in_the_time_stamps(run: Run, tmp_path: Path, model: list[str], codec: str) -> None:
    """MPEG-4 with B-frames is read as a copy for motion vectors, which has a constant frame rate."""
    times = [*range(6), *range(2506, 2512)]
    clip = encode(tmp_path / "jump.mkv", moving_square(12, (48, 64)), codec, times=times, bf="2")
    write_mask(tmp_path / "mask.png", np.eye(48, 64, dtype=np.uint8))
    arguments = (f"video={clip}", f"mask={tmp_path / 'mask.png'}", f"paths.cache={tmp_path / 'cache'}")
    assert not run("segment", *model, *arguments, f"output={tmp_path / 'out'}", "save=[overlay]")
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        found = [frame.time for frame in container.decode(video=0)]
        duration = container.duration / 1e6
    assert np.allclose(found, np.array(times) / 25, atol=2e-3)
    assert abs(duration - 2512 / 25) < 0.01


def test_overlays_of_time_stamps_that_start_again_keep_the_speed(run: Run, tmp_path: Path) -> None:
    """Two recordings one after the other, as `cat a.ts b.ts` makes them."""
    part = encode(tmp_path / "part.ts", moving_square(6, (48, 64)), bf="0").read_bytes()
    (tmp_path / "two.ts").write_bytes(part + part)
    write_mask(tmp_path / "mask.png", np.eye(48, 64, dtype=np.uint8))
    arguments = (f"video={tmp_path / 'two.ts'}", f"mask={tmp_path / 'mask.png'}", f"output={tmp_path / 'out'}")
    assert not run("segment", "model=copy_first", *arguments, "save=[overlay]")
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        found = [frame.time for frame in container.decode(video=0)]
    assert np.allclose(found, np.arange(12) / 25, atol=2e-3)


def test_overlays_keep_the_audio(run: Run, tmp_path: Path) -> None:
    clip = with_audio(tmp_path / "clip.mp4")
    write_mask(tmp_path / "mask.png", np.eye(48, 64, dtype=np.uint8))
    arguments = (f"video={clip}", f"mask={tmp_path / 'mask.png'}", f"output={tmp_path / 'out'}")
    assert not run("segment", "model=copy_first", *arguments, "save=[overlay,greenscreen,prores]")
    expected = [content for time, content in audio_packets(clip) if time >= 0]
    for name in ("overlay.mp4", "greenscreen.mp4", "cutout.mov"):
        assert [content for _, content in audio_packets(tmp_path / "out" / name)] == expected


def test_the_audio_of_a_part_starts_with_the_part(run: Run, tmp_path: Path) -> None:
    clip = with_audio(tmp_path / "clip.mp4")
    write_mask(tmp_path / "masks" / "00012.png", np.eye(48, 64, dtype=np.uint8))
    arguments = (f"video={clip}", f"mask={tmp_path / 'masks'}", f"output={tmp_path / 'out'}", "save=[overlay]")
    assert not run("segment", "model=copy_first", *arguments, "direction=backward", "start=3", "end=12")
    expected = [content for time, content in audio_packets(clip) if 3 / 25 <= time < 13 / 25]
    assert [content for _, content in audio_packets(tmp_path / "out" / "overlay.mp4")] == expected
