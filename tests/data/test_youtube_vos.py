from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.core import DataError
from src.data.youtube_vos import youtube_vos
from src.video import write_mask


def tree(root: Path, videos: dict[str, tuple[list[int], list[int]]]) -> Path:
    """Videos with the numbers of their frames and of their annotated frames."""
    for name, (frames, annotated) in videos.items():
        for kind, numbers, suffix in (("JPEGImages", frames, "jpg"), ("Annotations", annotated, "png")):
            folder = root / "train" / kind / name
            folder.mkdir(parents=True)
            for number in numbers:
                path = folder / f"{number:05d}.{suffix}"
                if kind == "JPEGImages":
                    Image.new("RGB", (16, 9)).save(path)
                else:
                    write_mask(path, np.full((9, 16), 2, np.uint8))
    return root


def test_frames_are_those_of_the_folder_and_need_not_start_at_zero(tmp_path: Path) -> None:
    videos = youtube_vos(tree(tmp_path, {"b": ([15, 20, 25], [15, 20, 25]), "a": ([0, 5, 10], [5])}))
    assert [video.name for video in videos] == ["a", "b"]
    assert [path.stem for path in videos[1].images] == ["00015", "00020", "00025"]
    first, second = videos[0].labels(0), videos[0].labels(1)
    assert first is None
    assert second is not None
    assert np.unique(second).tolist() == [2]
    assert not videos[0].merge


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match=r"train.JPEGImages: no such folder; .* holds valid"):
        youtube_vos(tmp_path)
    tree(tmp_path, {"a": ([0, 5], [0])})
    write_mask(tmp_path / "train" / "Annotations" / "a" / "00007.png", np.ones((9, 16), np.uint8))
    with pytest.raises(DataError, match=r"00007\.png: there is no frame of that name"):
        youtube_vos(tmp_path)
    (tmp_path / "train" / "JPEGImages" / "c").mkdir()
    (tmp_path / "train" / "Annotations" / "a" / "00007.png").unlink()
    with pytest.raises(DataError, match=r"no images|holds no image|no image"):
        youtube_vos(tmp_path)
