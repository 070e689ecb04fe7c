"""YouTube-VOS in its official layout: 6 fps and 30 fps splits, late objects, gaps, numbers that start anywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.data.tree import image, save_image, save_mask

SIZE = (24, 40)


@dataclass(frozen=True)
class Film:
    """A video: `length` frames numbered from `first`, every fifth annotated; objects by id, category and start."""

    first: int
    length: int
    objects: tuple[tuple[int, str, int], ...]

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.length)

    @property
    def annotated(self) -> range:
        return self.numbers[::5]

    def labels(self, number: int, new_only: bool = False) -> NDArray[np.uint8]:
        """Squares side by side that move right; each shows from its start on."""
        out = np.zeros(SIZE, np.uint8)
        moved = (number - self.first) // 2
        for place, (identity, _, start) in enumerate(self.objects):
            if number == start or (number > start and not new_only):
                out[4:12, 1 + 10 * place + moved : 9 + 10 * place + moved] = identity
        return out


FILMS = {
    "00f88c4f0a": Film(0, 16, ((1, "fish", 0), (2, "fish", 5))),
    "0a49f5265b": Film(20, 12, ((2, "ape", 25), (5, "dog", 30))),
    "0b0c90e21a": Film(36, 6, ((3, "dog", 36),)),
}


def youtube_tree(root: Path, films: dict[str, Film] | None = None) -> Path:
    """`train`, `valid` and their twins. `ape` is a category that only `valid` has."""
    films = FILMS if films is None else films
    known = {name: film for name, film in films.items() if all(obj[1] != "ape" for obj in film.objects)}
    for split, these in (("train", known), ("valid", films)):
        for name, film in these.items():
            for number in film.numbers:
                save_image(root / f"{split}_all_frames/JPEGImages/{name}/{number:05}.jpg", image(number, SIZE))
            for number in film.annotated:
                save_image(root / f"{split}/JPEGImages/{name}/{number:05}.jpg", image(number, SIZE))
                starts = {start for _, _, start in film.objects}
                if split == "train" or number in starts:
                    mask = film.labels(number, new_only=split == "valid")
                    save_mask(root / f"{split}/Annotations/{name}/{number:05}.png", mask)
        write_meta(root / split / "meta.json", these)
    return root


def write_meta(path: Path, films: dict[str, Film]) -> None:
    videos = {}
    for name, film in films.items():
        objects = {}
        for identity, category, start in film.objects:
            frames = [f"{number:05}" for number in film.annotated if number >= start]
            objects[str(identity)] = {"category": category, "frames": frames}
        videos[name] = {"objects": objects}
    path.write_text(json.dumps({"videos": videos}))
