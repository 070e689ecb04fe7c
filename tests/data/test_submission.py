from __future__ import annotations

import io
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.data.tree import davis_tree
from tests.data.youtube_tree import FILMS, youtube_tree
from voslab.core import DataError, WriteError
from voslab.data import EvaluationItem, VideoSequence
from voslab.data.sources.davis import davis
from voslab.data.sources.youtube_vos import youtube_vos
from voslab.data.submission import check_submission, write_submission
from voslab.engine import Settings
from voslab.methods.copy_first.network import CopyFirst
from voslab.training.evaluation import EvaluationModule, mask_sinks, segment_video
from voslab.video import palette, write_mask

FISH, APE, DOG = sorted(FILMS)
ROOT = "Annotations"
EXPECTED = [
    f"{ROOT}/{name}/{i:05}.png" for name, ids in ((FISH, (0, 5, 10, 15)), (APE, (25, 30)), (DOG, (36, 41))) for i in ids
]
Files = dict[str, bytes]


def segment(videos: tuple[VideoSequence, ...], output: Path) -> Path:
    """Run the floor on all frames; gives the folder of masks."""
    module = EvaluationModule(partial(segment_video, CopyFirst(), Settings()), mask_sinks(output))
    for index, video in enumerate(videos):
        module.evaluate_item(EvaluationItem(index, video))
    assert np.isnan(module.conclude()["J&F-Mean"])
    return output / "masks"


def png(labels: NDArray[np.uint8], mode: str = "P") -> bytes:
    image = Image.fromarray(labels)
    image.putpalette(palette().tobytes())
    content = io.BytesIO()
    image.convert(mode).save(content, "PNG")
    return content.getvalue()


def unpacked(path: Path) -> Files:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoSequence, ...]:
    return youtube_vos(youtube_tree(tmp_path_factory.mktemp("data")), "valid_all_frames")


@pytest.fixture(scope="module")
def masks(videos: tuple[VideoSequence, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segment(videos, tmp_path_factory.mktemp("segmented"))


@pytest.fixture
def good(videos: tuple[VideoSequence, ...], masks: Path, tmp_path: Path) -> Path:
    write_submission(tmp_path / "good.zip", masks, videos)
    return tmp_path / "good.zip"


def test_submissions_have_the_format_of_the_server(
    videos: tuple[VideoSequence, ...], masks: Path, good: Path, tmp_path: Path
) -> None:
    assert check_submission(good, videos) == []
    assert list(unpacked(good)) == EXPECTED
    with Image.open(io.BytesIO(unpacked(good)[f"{ROOT}/{APE}/00030.png"])) as image:
        assert (image.mode, image.size, image.getpalette()) == ("P", (40, 24), palette().ravel().tolist())
        # The object of before stays where it was; zeros around the new one do not erase it.
        before, new = FILMS[APE].labels(25), FILMS[APE].labels(30, new_only=True)
        np.testing.assert_array_equal(image, np.where(new, new, before))
    # The network ran on all frames; only these were written.
    assert sorted(f"{ROOT}/{path.relative_to(masks)}" for path in masks.rglob("*.png")) == sorted(EXPECTED)
    write_submission(tmp_path / "again.zip", masks, videos)
    assert (tmp_path / "again.zip").read_bytes() == good.read_bytes()


def test_davis_takes_the_folders_at_the_top(tmp_path: Path) -> None:
    davis_tree(tmp_path)
    for path in (tmp_path / "Annotations").rglob("*.png"):
        if path.stem != "00000":
            path.unlink()
    (tmp_path / "ImageSets/2017/test-dev.txt").write_text("bear\ncamel\n")
    videos = davis(tmp_path, 2017, "test-dev")
    assert write_submission(tmp_path / "good.zip", segment(videos, tmp_path / "out"), videos) == 10
    assert check_submission(tmp_path / "good.zip", videos) == []
    files = unpacked(tmp_path / "good.zip")
    assert list(files)[::5] == ["bear/00000.png", "camel/00000.png"]
    moved = zipped(tmp_path / "moved.zip", {f"my masks/{name}": content for name, content in files.items()})
    assert list(map(str, check_submission(moved, videos))) == [
        "my masks/: wrong root folder: the folders of the sequences must be at the top of the zip"
    ]
    files |= {"readme.txt": b"", "bear/00005.png": b"", "cow/1.png": b"", "cow/2.png": b"", "bear/camel/00000.png": b""}
    assert list(map(str, check_submission(zipped(tmp_path / "more.zip", files), videos))) == [
        "readme.txt: is not a frame of the submission",
        "bear/00005.png: is not a frame of the submission",
        "cow/: is the folder of no sequence",
        "bear/camel/00000.png: is not a frame of the submission",
    ]


def rename(old: str, new: str) -> Callable[[Files], Files]:
    return lambda files: {key.replace(old, new, 1): value for key, value in files.items()}


def without(*names: str) -> Callable[[Files], Files]:
    return lambda files: {key: value for key, value in files.items() if key not in names}


def flat(identity: int, size: tuple[int, int] = (24, 40)) -> NDArray[np.uint8]:
    return np.full(size, identity, np.uint8)


FIRST, LATE = f"{ROOT}/{FISH}/00000.png", f"{ROOT}/{APE}/00025.png"
LOST = f"{ROOT}/{DOG}/: missing, the folder of a sequence"
MOVED = f"wrong root folder: the folders of the sequences must be under {ROOT}/"


@pytest.mark.parametrize(
    ("plant", "faults"),
    [
        (without(LATE), [f"{LATE}: missing"]),
        (without(EXPECTED[6], EXPECTED[7]), [LOST]),
        (rename(DOG, "dog"), [LOST, f"{ROOT}/dog/: is the folder of no sequence"]),
        (rename(f"{ROOT}/", "results/masks/"), [f"results/masks/: {MOVED}"]),
        (rename(f"{ROOT}/", ""), [f"the zip: {MOVED}"]),
        (lambda files: {f"{ROOT}/": b"", f"{ROOT}/{FISH}/": b"", **files}, []),
    ],
)
def test_misplaced_masks(
    videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path, plant: Callable[[Files], Files], faults: list[str]
) -> None:
    bad = zipped(tmp_path / "bad.zip", plant(unpacked(good)))
    assert list(map(str, check_submission(bad, videos))) == faults


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (f"{ROOT}/{FISH}/00003.png", f"{ROOT}/{FISH}/00003.png: is not a frame of the submission"),
        ("readme.txt", "readme.txt: is not a frame of the submission"),
        ("__MACOSX/._x", "__MACOSX/._x: is not a frame of the submission"),
        ("../evil.png", "../evil.png: unsafe name"),
        ("/etc/evil", "/etc/evil: unsafe name"),
        ("C:\\evil", "C:\\evil: unsafe name"),
        ("a\nb", "a\\nb: unsafe name"),
    ],
)
def test_files_too_many(videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path, name: str, fault: str) -> None:
    bad = zipped(tmp_path / "bad.zip", unpacked(good) | {name: b""})
    assert list(map(str, check_submission(bad, videos))) == [fault]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png(flat(2, (24, 44))), "is 44 x 24 pixels, its frame 40 x 24"),
        (png(flat(2), "L"), "is no palette PNG (its mode is L)"),
        (png(flat(2), "RGB"), "is no palette PNG (its mode is RGB)"),
        (png(flat(9)), "has an unknown id: 9 (the sequence has 2, 5)"),
        (b"\xff\xd8\xff\xe0", "is no PNG"),
        (png(flat(2))[:20], "is 0 x 0 pixels, its frame 40 x 24"),
        (bytes(100_000), "has 100000 bytes, too many for a mask of 40 x 24 pixels"),
    ],
)
def test_wrong_masks(
    videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    bad = zipped(tmp_path / "bad.zip", unpacked(good) | {LATE: content})
    assert list(map(str, check_submission(bad, videos))) == [f"{LATE}: {reason}"]


def test_an_object_before_its_time_is_worth_a_warning(
    videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path
) -> None:
    (fault,) = check_submission(zipped(tmp_path / "bad.zip", unpacked(good) | {LATE: png(flat(5))}), videos)
    assert fault.warning
    assert str(fault) == f"warning: {LATE}: has id 5 before frame 00030, in which it is given"


def test_damaged_masks(videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path) -> None:
    whole = unpacked(good)
    for cut in (-60, -30, 40):
        bad = zipped(tmp_path / "bad.zip", whole | {LATE: whole[LATE][:cut]})
        (fault,) = check_submission(bad, videos)
        assert str(fault).startswith(f"{LATE}: is a damaged PNG (")


def test_faults_of_the_zip_itself(videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path) -> None:
    def reasons(content: bytes) -> list[str]:
        (tmp_path / "bad.zip").write_bytes(content)
        return list(map(str, check_submission(tmp_path / "bad.zip", videos)))

    whole = good.read_bytes()
    assert reasons(whole[:-100]) == ["bad.zip: no zip, or a damaged one (File is not a zip file)"]
    assert reasons(b"") == ["bad.zip: no zip, or a damaged one (File is not a zip file)"]
    flipped = bytearray(whole)
    flipped[whole.index(b"IDAT") + 8] ^= 1
    assert reasons(flipped) == [f"{FIRST}: is damaged in the zip (Bad CRC-32 for file '{FIRST}')"]
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
    assert reasons(encrypted) == [f"{FIRST}: is encrypted"]
    # A size that is a lie: the central directory says less than what comes out.
    lying = bytearray(whole)
    at = whole.index(b"PK\x01\x02") + 24
    lying[at : at + 4] = struct.pack("<I", 50)
    assert reasons(lying) == [f"{FIRST}: is damaged in the zip (Bad CRC-32 for file '{FIRST}')"]
    with pytest.raises(DataError, match=r"none\.zip: no such file"):
        check_submission(tmp_path / "none.zip", videos)


def test_odd_members(videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        for number, (name, content) in enumerate(unpacked(good).items()):
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if number == 0 else 0o100644) << 16
            info.compress_type = zipfile.ZIP_LZMA if number == 1 else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(EXPECTED[-1], b"")
    assert list(map(str, check_submission(bad, videos))) == [
        f"{EXPECTED[-1]}: is in the zip twice",
        f"{EXPECTED[0]}: is a link",
        f"{EXPECTED[1]}: is packed by method 14; servers read stored and deflated files",
    ]


def test_a_bomb_is_not_unpacked(videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path) -> None:
    files = unpacked(good)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, bytes(300_000_000) if name == LATE else content)
    (fault,) = check_submission(tmp_path / "bomb.zip", videos)
    assert str(fault) == f"{LATE}: has 300000000 bytes, too many for a mask of 40 x 24 pixels"


def test_a_bomb_that_declares_another_size_is_not_unpacked(
    videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in unpacked(good).items():
            archive.writestr(name, bytes(50_000_000) if name == LATE else content)
    whole = bytearray(path.read_bytes())
    at = whole.rindex(LATE.encode()) - 22  # of the declared size, in the central directory
    assert whole[at : at + 4] == struct.pack("<I", 50_000_000)
    whole[at : at + 4] = struct.pack("<I", 1000)
    path.write_bytes(whole)
    tracemalloc.start()
    (fault,) = check_submission(path, videos)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(fault).startswith(f"{LATE}: is ")
    assert peak < 5_000_000


def test_a_mask_of_another_mode_is_not_called_too_large(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 4)).astype(np.uint8)
    path = tmp_path / "images" / "00000.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    video = VideoSequence("noise", (path,), (None,), starts={1: 0})
    (fault,) = check_submission(zipped(tmp_path / "noise.zip", {"noise/00000.png": path.read_bytes()}), (video,))
    assert str(fault) == "noise/00000.png: is no palette PNG (its mode is RGBA)"


def test_no_flipped_byte_is_more_than_a_fault(videos: tuple[VideoSequence, ...], good: Path, tmp_path: Path) -> None:
    whole, rng = good.read_bytes(), np.random.default_rng(0)
    directory = whole.index(b"PK\x01\x02")
    for place in (*rng.integers(0, len(whole), 40), *rng.integers(directory, len(whole), 80)):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "bad.zip").write_bytes(content)
        assert all(str(fault).isprintable() for fault in check_submission(tmp_path / "bad.zip", videos))


def test_many_faults_of_a_kind_are_one_line(tmp_path: Path) -> None:
    davis_tree(tmp_path, names=("bear",), frames=12)
    (tmp_path / "ImageSets/2017/test-dev.txt").write_text("bear\n")
    videos = davis(tmp_path, 2017, "test-dev")
    grey = {f"bear/{frame:05}.png": png(flat(1), "L") for frame in range(12)}
    (fault,) = check_submission(zipped(tmp_path / "bad.zip", grey), videos)
    assert str(fault) == "bear/00000.png and 11 more there: is no palette PNG (its mode is L)"


def test_masks_of_any_kind_become_palette_pngs(videos: tuple[VideoSequence, ...], masks: Path, tmp_path: Path) -> None:
    other = shutil.copytree(masks, tmp_path / "other")
    grey = np.zeros((24, 40), np.uint16)
    grey[:5] = 2
    Image.fromarray(grey).save(other / APE / "00025.png")
    write_submission(tmp_path / "some.zip", other, videos)
    assert check_submission(tmp_path / "some.zip", videos) == []
    # White on black is object 1, as where masks are scored.
    Image.fromarray(np.uint8(FILMS[FISH].labels(0) > 0) * np.uint8(255)).save(other / FISH / "00000.png")
    write_submission(tmp_path / "some.zip", other, videos)
    assert check_submission(tmp_path / "some.zip", videos) == []
    (other / APE / "00030.png").unlink()
    assert write_submission(tmp_path / "some.zip", other, videos) == 7
    assert list(map(str, check_submission(tmp_path / "some.zip", videos))) == [f"{ROOT}/{APE}/00030.png: missing"]


def test_invalid_masks_are_refused_and_the_old_file_is_kept(
    videos: tuple[VideoSequence, ...], masks: Path, good: Path, tmp_path: Path
) -> None:
    other, before = shutil.copytree(masks, tmp_path / "other"), good.read_bytes()
    write_mask(other / DOG / "00036.png", np.full((24, 40), 300))
    with pytest.raises(DataError, match=rf"{DOG}.00036\.png: id 300 does not fit into a palette PNG"):
        write_submission(good, other, videos)
    (other / DOG / "00036.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"{DOG}.00036\.png: not an image"):
        write_submission(good, other, videos)
    with pytest.raises(WriteError, match="cannot be written"):
        write_submission(good / "inside.zip", masks, videos)
    assert good.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.zip", "other"]
