"""What strangers hand in, through the programs' own doors: one line, exit code 2, nothing run, nothing lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Run
from tests.video.clips import encode, moving_square, remux
from voslab.data.sources.synthetic.generated import generate
from voslab.methods import registry
from voslab.video import read_mask

IMAGES = moving_square(6)
SMALL = ("model.network.backbone=resnet18", "model.network.width=8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    generate(folder / "DAVIS", train=2, val=1, frames=3, size=(48, 64), objects=(1, 1))
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return encode(tmp_path / "clip.mp4", IMAGES)


def mask(path: Path, labels: np.ndarray | None = None) -> Path:
    if labels is None:
        labels = np.zeros((48, 64), np.uint8)
        labels[8:24, :12] = 1
    Image.fromarray(labels).save(path)
    return path


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.path}'",)


DOORS = {
    "evaluate checkpoint": ("evaluate", "checkpoint={file}", "data=davis2017", "trainer=cpu"),
    "evaluate weights": ("evaluate", *SMALL, "model=crvos", "weights={file}", "data=davis2017", "trainer=cpu"),
    "evaluate base": ("evaluate", *SMALL, "model=covos", "base_weights={file}", "data=davis2017", "trainer=cpu"),
    "segment checkpoint": ("segment", "video={clip}", "mask={mask}", "checkpoint={file}"),
    "segment weights": ("segment", "video={clip}", "mask={mask}", *SMALL, "model=stcn", "weights={file}"),
    "benchmark checkpoint": ("benchmark", "checkpoint={file}"),
    "export checkpoint": ("export", "checkpoint={file}"),
    "export weights": ("export", *SMALL, "model=stcn", "weights={file}"),
    "train weights": ("train", "trainer=cpu", *SMALL, "weights={file}", "data=davis2017"),
    "train encoder": ("train", "trainer=cpu", *SMALL, "model.encoder_weights={file}", "data=davis2017"),
    "train resume": (
        "train",
        "trainer=cpu",
        *SMALL,
        "resume={run}",
        "data=davis2017",
        "data.clip.frames=3",
        "data.batch_size=1",
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_hostile_checkpoint_is_refused_at_every_door(
    run: Run, data: Path, clip: Path, tmp_path: Path, door: str
) -> None:
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    name, *arguments = DOORS[door]
    given = {"file": file, "run": tmp_path / "run", "clip": clip, "mask": mask(tmp_path / "m.png")}
    output = f"{'hydra.run.dir' if name == 'train' else 'output'}={tmp_path}/out"
    filled = [argument.format(**given) for argument in arguments]
    for content, reason in (
        ({"state_dict": Hostile(tmp_path / "ran"), "vos": {"method": "crvos"}}, "holds more than tensors"),
        (b"half a", "damaged or no weights file"),
    ):
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        line = run(name, *filled, f"paths.data={data}", output)
        assert line.startswith(f"{file}: ")
        assert reason in line
        assert not (tmp_path / "ran").exists()


def test_videos_of_strangers(run: Run, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voslab.video.stream.PATIENCE", 0.2)  # of the pipe that nobody writes to
    given = mask(tmp_path / "m.png")
    content = clip.read_bytes()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "0.png").symlink_to(tmp_path / "loop" / "0.png")
    for name, wrong in (
        *(("empty.mp4", b""), ("text.mp4", b"hello\n" * 99), ("half.mp4", content[: len(content) // 2])),
        *(("picture.mp4", given.read_bytes()), ("pipe.mp4", None), ("gone.mp4", None), ("loop", None)),
    ):
        if wrong is not None:
            (tmp_path / name).write_bytes(wrong)
        line = run("segment", f"video={tmp_path}/{name}", f"mask={given}", "model=copy_first", f"output={tmp_path}/out")
        assert line.startswith(f"{tmp_path}/{name}")
        assert not list((tmp_path / "out").glob("*.mp4"))


def test_strange_but_sound_videos_are_segmented(run: Run, tmp_path: Path, clip: Path) -> None:
    given = mask(tmp_path / "m.png")
    videos = {
        "late.mkv": remux(clip, tmp_path / "late.mkv", shift=4),
        "deep.mp4": encode(tmp_path / "deep.mp4", IMAGES, pixels="yuv420p10le"),
        "vary.mp4": encode(tmp_path / "vary.mp4", IMAGES, times=[0, 1, 5, 6, 20, 21]),
    }
    for name, path in videos.items():
        output = tmp_path / f"of {name}"
        assert not run("segment", f"video={path}", f"mask={given}", "model=copy_first", f"output={output}")
        assert len(list((output / "masks").iterdir())) == len(IMAGES)


def test_masks_of_strangers(run: Run, tmp_path: Path, clip: Path) -> None:
    square = np.zeros((48, 64), np.uint8)
    square[8:24, 4:30] = 255
    soft = Image.fromarray(square).resize((70, 50), Image.Resampling.BICUBIC).resize((64, 48), Image.Resampling.BICUBIC)
    for name, labels, reason in (
        ("small.png", square[:40], "small.png: the mask is 64 x 40, the video 64 x 48"),
        ("none.png", square * 0, "no object in it"),
        ("soft.png", np.asarray(soft) // 2, "anti-aliased"),
        ("many.tif", np.where(square, 70_000, 0).astype(np.int32), "id 70000 does not fit"),
        ("float.tif", square.astype(np.float32), "is no mask"),
    ):
        given = mask(tmp_path / name, labels)
        line = run("segment", f"video={clip}", f"mask={given}", "model=copy_first", f"output={tmp_path}/out")
        assert reason in line, line


def test_ids_keep_their_gaps_and_one_pixel_is_an_object(run: Run, tmp_path: Path, clip: Path) -> None:
    labels = np.zeros((48, 64), np.uint16)
    labels[0:9], labels[9:20], labels[30, 5] = 7, 300, 1
    given = mask(tmp_path / "gaps.png", labels)
    assert not run("segment", f"video={clip}", f"mask={given}", "model=copy_first", f"output={tmp_path}/out")
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "00005.png"), labels)


def test_what_was_written_before_an_error_is_whole_and_stays(run: Run, tmp_path: Path, clip: Path) -> None:
    given, output = mask(tmp_path / "m.png"), tmp_path / "out"
    assert not run("segment", f"video={clip}", f"mask={given}", "model=copy_first", f"output={output}")
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file() and path.suffix != ".log"}
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{index:05}.png")
    (folder / "00003.png").write_bytes(b"no picture")
    line = run("segment", f"video={folder}", f"mask={given}", "model=copy_first", f"output={output}")
    assert line.startswith(f"{folder}/00003.png: not an image")
    assert (output / "overlay.mp4").read_bytes() == before[output / "overlay.mp4"]
    assert {path for path in output.rglob("*") if path.is_file() and path.suffix != ".log"} == before.keys()
    for path in (output / "masks").iterdir():
        assert read_mask(path).shape == (48, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+data.train.typo=1"], "data.train.typo: generated takes no 'typo'"),
        (["+data.clip.fraems=3"], "data.clip.fraems: ClipSettings takes no 'fraems'; did you mean 'frames'?"),
        (["+trainer.max_stepz=3"], "trainer.max_stepz: Trainer takes no 'max_stepz'; did you mean 'max_steps'?"),
        (["+model.network.backbon=x"], "network.backbon: CRVOS takes no 'backbon'; did you mean 'backbone'?"),
        (["data.batch_size=abc"], "data.batch_size=abc: must be a whole number"),
        (["data.clip.frames=-3"], "frames=-3"),
        (["data.clip.augmentation.size=[64]"], "must be a list of 2"),
        (["model.network.width=-8"], "network.width=-8: must be a whole number from 1 to"),
        (["model.training.optimizer.lr=fast"], "model.training.optimizer.lr=fast: must be a number"),
        (["model.training.optimizer._target_=torch.hub.load"], "_target_ 'torch.hub.load' is not allowed"),
        (["data._target_=voslab.core.archive.torch.load"], "_target_ 'voslab.core.archive.torch.load' is not allowed"),
        (["data=davis216"], "data=davis216: no such choice; did you mean 'davis2016'?"),
        (["sede=1"], "sede: there is no 'sede' here; did you mean 'seed'?"),
        (["data=null"], "data=null: a group must name one of its choices"),
        (["seed=-1"], "seed=-1: must be from 0"),
        (
            ["trainer.val_check_interval=1000", "data.num_workers=0"],
            "trainer: `val_check_interval` (1000) must be less than or equal",
        ),
        (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0: must be a whole number from 1 to"),
        (["trainer.check_val_every_n_epoch=0"], "trainer.check_val_every_n_epoch=0: must be a whole number from 1"),
        (["trainer.val_check_interval=0"], "trainer.val_check_interval=0: must be a whole number from 1"),
        (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val=-1: must be a number of at least 0 or null"),
        (["trainer.num_sanity_val_steps=-3"], "trainer.num_sanity_val_steps=-3: must be a whole number of at least -1"),
        (
            ["callbacks.last.every_n_train_steps=0"],
            "callbacks.last.every_n_train_steps=0: must be a whole number from 1",
        ),
        (["+callbacks.gallery.height=0"], "callbacks.gallery.height=0: must be a whole number from 1 to 16384"),
        (
            ["data.clip.augmentation.size=[1000000,1000000]"],
            "data.clip.augmentation.size=[1000000, 1000000]: must be a list of 2, each a whole number from 1 to 16384",
        ),
        (["+data.clip.augmentation.short=0"], "data.clip.augmentation.short=0: must be a whole number from 1 to 16384"),
        (["+data.train.size=[100000,200000]"], "data.train.size=[100000, 200000]: must be a list of 2, each a whole"),
        (["+model.network.object_chunk=0"], "network.object_chunk=0: must be a whole number from 1 to"),
        (["+engine.sise=2"], "engine.sise: Settings takes no 'sise'; did you mean 'size'?"),
    ],
)
def test_mistyped_arguments_are_refused_before_the_program_starts(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    line = run("train", "trainer=cpu", *SMALL, f"paths.cache={tmp_path}", f"hydra.run.dir={tmp_path}/run", *arguments)
    assert message in line
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("name", ["copy_first", "crvos", "stcn"])
def test_odd_sizes_are_taken_as_they_are(name: str) -> None:
    from voslab.engine import run as carry

    small = {"backbone": "resnet18", "width": 8} if name != "copy_first" else {}
    segmenter = registry.build(name, small)
    if isinstance(segmenter, torch.nn.Module):
        segmenter.eval()
    for size in ((1, 1), (17, 31), (33, 80)):
        pictures = [np.full((*size, 3), 99, np.uint8)] * 2
        labels = np.ones(size, np.uint8)
        assert [prediction.ids.shape for prediction in carry(segmenter, pictures, {0: labels})] == [size, size]


def test_an_interpolation_in_a_file_name_is_a_part_of_the_name(run: Run, tmp_path: Path, clip: Path) -> None:
    folder = tmp_path / "${oc.env:HOME}"
    folder.mkdir()
    video, given = folder / "${now:%Y}.mp4", mask(folder / "${mask}.png")
    clip.rename(video)
    assert not run("segment", f"video={video}", f"mask={given}", "model=copy_first", f"output={folder}/${{out}}")
    assert len(list((folder / "${out}" / "masks").iterdir())) == len(IMAGES)
    for program, *others in (
        ("segment", f"video={video}", f"mask={given}", "checkpoint={}"),
        ("evaluate", "data=generated", "predictions={}"),
        ("evaluate", "data=generated", "model=crvos", "weights={}"),
        ("export", "checkpoint={}"),
        ("train", "resume={}"),
        ("prepare", "data=davis2017", "archive={}"),
    ):
        missing = folder / "${missing}"
        arguments = [argument.format(missing) if "{}" in argument else argument for argument in others]
        place = {"train": [f"hydra.run.dir={tmp_path}/out"], "prepare": []}.get(program, [f"output={tmp_path}/out"])
        line = run(program, *arguments, *place, f"paths.data={folder}", f"paths.cache={folder}")
        assert str(missing) in line, line


def test_interpolations_of_recipes_are_resolved_beside_such_names(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "${data}"
    line = run("evaluate", "model=copy_first", "data=davis2017", f"paths.data={folder}", f"output={tmp_path}/out")
    assert line.startswith(f"{folder}/DAVIS: no such folder")
