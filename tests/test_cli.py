"""The command line as people use it: train, then evaluate and segment what it wrote."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import av
import lightning as L
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from tests.conftest import Run
from voslab.cli.arguments import quote_path
from voslab.cli.training_module import training_module
from voslab.data.samplers import EvaluationSampler
from voslab.data.sources.davis import davis
from voslab.data.sources.synthetic.generated import generate
from voslab.data.video_sequence import EvaluationItem
from voslab.methods.builder import from_checkpoint
from voslab.methods.checkpoint import merge
from voslab.training.evaluation import mask_sinks
from voslab.video import open_video

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("model.network.backbone=resnet18", "model.network.width=8", "model.network.norm=group", "trainer=cpu")
CLIPS = ("data.clip.frames=3", "data.clip.augmentation.size=[64,96]", "data.batch_size=2", "data.num_workers=0")


def program(name: str, *arguments: str, code: int = 0, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"src.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@dataclass
class TrainedRun:
    """A DAVIS tree of generated videos of odd size, and a network trained on it for two steps."""

    data: Path
    run: Path
    stdout: str = ""

    @property
    def checkpoint(self) -> Path:
        return self.run / "checkpoints" / "last.ckpt"

    @property
    def davis(self) -> tuple[str, str]:
        return "data=davis2017", f"paths.data={self.data}"

    def frames(self, name: str) -> Path:
        return self.data / "DAVIS" / "JPEGImages" / "480p" / name

    def masks(self, name: str) -> Path:
        return self.data / "DAVIS" / "Annotations" / "480p" / name


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    folder = tmp_path_factory.mktemp("a data folder")
    generate(folder / "DAVIS", train=4, val=2, frames=5, size=(65, 97), objects=(2, 2))
    run = folder / "run (1)"
    result = TrainedRun(folder, run)
    record = (f"paths.experiments={folder}/experiments", "record=trial")
    short = ("trainer.max_epochs=1", "engine.size=60")
    done = program("train", *SMALL, *result.davis, *CLIPS, f"hydra.run.dir={run}", *short, *record)
    return replace(result, stdout=done.stdout)


def test_a_run_folder_is_complete(trained_run: TrainedRun) -> None:
    for name in (
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "metrics.json",
        "per_sequence.csv",
        ".hydra/config.yaml",
    ):
        assert (trained_run.run / name).is_file(), name
    metrics = json.loads((trained_run.run / "metrics.json").read_text())
    names = ["J&F-Mean", *(f"{m}-{s}" for m in "JF" for s in ("Mean", "Recall", "Decay"))]
    measured = {"frames_per_second", "first_frame_seconds", "peak_memory_mb", "identity_switches"}
    validated = {f"val/{name}" for name in names if name.endswith("Mean")}
    assert set(metrics) == {*names, *measured, *validated, "params_millions", "training_steps", "training_minutes"}
    assert all(isinstance(value, float) for value in metrics.values())
    assert metrics["frames_per_second"] > 0
    losses = [row["train/loss"] for row in table(trained_run.run / "logs" / "metrics.csv")]
    assert sum(bool(loss) for loss in losses) == 2
    assert len(list((trained_run.run / "gallery").glob("*.png"))) == 2
    [record] = (trained_run.data / "experiments" / "trial" / "records").iterdir()
    content = json.loads(record.read_text())
    assert content["metrics"] == metrics
    assert content["data"]["sequences"] == 2
    assert content["config"]["seed"] == 0


def test_training_prints_its_outputs_progress_and_next_commands(trained_run: TrainedRun) -> None:
    before, after = trained_run.stdout.split("next:\n")
    _, _, promised = before.partition(f"output: {trained_run.run}\n")
    names = [line.split()[0] for line in promised.splitlines() if line.startswith("  ")][:5]
    assert names == ["checkpoints/last.ckpt", "checkpoints/best.ckpt", "logs/metrics.csv", "gallery/", "metrics.json"]
    assert all((trained_run.run / name).exists() for name in names)
    assert re.search(r"^epoch 1/1  step 2  loss \d+\.\d+  val J&F ", before, re.MULTILINE)
    evaluate, segment, dashboard = (shlex.split(line) for line in after.splitlines())
    for (_, _, name, *arguments), expected in ((evaluate, "evaluate"), (segment, "segment"), (dashboard, "dashboard")):
        assert name == f"src.{expected}"
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose(expected, [quote_path(argument) for argument in arguments])
        if expected == "dashboard":
            assert config.runs == str(trained_run.run)
            continue
        assert Path(config.checkpoint) == trained_run.run / "checkpoints" / "last.ckpt", "what was tested"
        if expected == "evaluate":
            assert (config.paths.data, config.data.test.year) == (str(trained_run.data), 2017)


@pytest.mark.slow
def test_a_run_can_be_repeated_from_its_saved_configuration(trained_run: TrainedRun, tmp_path: Path) -> None:
    saved = ("--config-path", str(trained_run.run / ".hydra"), "--config-name", "config")
    program("train", *saved, f"hydra.run.dir={tmp_path}", "test=null", "record=null")
    first, again = (table(run / "logs" / "metrics.csv") for run in (trained_run.run, tmp_path))
    losses = [[row["train/loss"] for row in rows if row["train/loss"]] for rows in (first, again)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


def test_a_checkpoint_holds_plain_types_and_names_no_class(trained_run: TrainedRun) -> None:
    content = torch.load(trained_run.checkpoint, weights_only=True)
    assert content["vos"]["method"] == "crvos"
    assert content["vos"]["network"]["width"] == 8
    assert content["vos"]["engine"] == {"size": 60, "precision": "fp32"}
    assert "_target_" not in str({key: value for key, value in content.items() if key != "state_dict"})


@pytest.fixture(scope="module")
def evaluated(trained_run: TrainedRun) -> Path:
    output = trained_run.data / "evaluated"
    program(
        *("evaluate", f"checkpoint={trained_run.checkpoint}", "data=davis2017", f"paths.data={trained_run.data}"),
        f"output={output}",
    )
    return output


def test_a_wrapper_takes_its_base_from_a_checkpoint_and_equals_it_on_plain_frames(
    trained_run: TrainedRun, evaluated: Path, tmp_path: Path
) -> None:
    small = ("model=covos", "model.network.backbone=resnet18", "model.network.width=8", "trainer=cpu")
    plain = ("model.encoding=null", f"base_weights={trained_run.checkpoint}", f"output={tmp_path}")
    program("evaluate", *small, *plain, *trained_run.davis)
    masks = sorted(path.relative_to(evaluated) for path in (evaluated / "masks").rglob("*.png"))
    assert len(masks) == 10
    assert all((evaluated / mask).read_bytes() == (tmp_path / mask).read_bytes() for mask in masks)
    done = program("evaluate", "model=stm", f"base_weights={trained_run.checkpoint}", *trained_run.davis, code=2)
    assert "model 'stm' wraps no base" in done.stderr


def test_coded_video_goes_through_evaluate_and_segment(trained_run: TrainedRun, tmp_path: Path) -> None:
    small = ("model=covos", "model.network.refine=false", "model.network.correction=false", "engine.size=60")
    base = (f"base_weights={trained_run.checkpoint}", f"paths.cache={tmp_path}/cache")
    program("evaluate", *small, *base, *trained_run.davis, f"output={tmp_path}/scores", "trainer=cpu")
    assert len(list((tmp_path / "scores" / "masks").rglob("*.png"))) == 10
    codec = sorted((tmp_path / "cache" / "coded").glob("*.mp4"))
    assert len(codec) == 2
    mask = trained_run.masks("val_000") / "00000.png"
    video = f"video={trained_run.frames('val_000')}"
    more = (f"output={tmp_path}/out", "engine.device=cpu", "inspect=true")
    done = program("segment", *small, *base, video, f"mask={mask}", *more)
    assert f"inspect: {tmp_path}/out/inspect.mp4" in done.stdout
    assert sum(1 for _ in open_video(tmp_path / "out/inspect.mp4")) == 5
    for name in (f"{index:05}.png" for index in range(5)):
        scored = tmp_path / "scores" / "masks" / "val_000" / name
        assert (tmp_path / "out" / "masks" / name).read_bytes() == scored.read_bytes()
    assert sorted((tmp_path / "cache" / "coded").glob("*.mp4")) == codec, "encoded once"


def test_evaluate_repeats_the_test_of_the_training(trained_run: TrainedRun, evaluated: Path) -> None:
    trained, now = (json.loads((folder / "metrics.json").read_text()) for folder in (trained_run.run, evaluated))
    for key in ("J&F-Mean", "J-Decay", "F-Recall", "params_millions", "training_steps"):
        assert now[key] == trained[key]
    assert now["training_steps"] == 2
    assert 0 < now["training_minutes"] < 2
    assert (evaluated / "per_sequence.csv").read_text() == (trained_run.run / "per_sequence.csv").read_text()
    rows = table(evaluated / "per_sequence.csv")
    assert [(row["sequence"], row["object"], row["frames"]) for row in rows] == [
        (name, str(i), "3") for name in ("val_000", "val_001") for i in (1, 2)
    ]


def test_scoring_the_written_masks_gives_the_same_numbers(
    trained_run: TrainedRun, evaluated: Path, tmp_path: Path
) -> None:
    program(
        *("evaluate", f"predictions={evaluated}/masks", "data=davis2017", f"paths.data={trained_run.data}"),
        f"output={tmp_path}",
    )
    again = (tmp_path / "per_sequence.csv").read_text()
    assert again == (evaluated / "per_sequence.csv").read_text()


def test_validation_evaluate_and_segment_write_the_same_bytes(
    trained_run: TrainedRun, evaluated: Path, tmp_path: Path
) -> None:
    program(
        *("segment", f"video={trained_run.frames('val_001')}", f"mask={trained_run.masks('val_001')}/00000.png"),
        *(f"checkpoint={trained_run.checkpoint}", f"output={tmp_path / 'segmented'}"),
    )
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [*SMALL, quote_path(f"weights={trained_run.checkpoint}"), "engine.size=60"])
    module = training_module(config)
    module.sinks = mask_sinks(tmp_path / "validated")
    videos = davis(trained_run.data / "DAVIS", 2017, "val")
    items = [EvaluationItem(i, videos[i]) for i in EvaluationSampler([len(video) for video in videos])]
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, inference_mode=False)
    trainer.validate(module, torch.utils.data.DataLoader(items, batch_size=None), verbose=False)
    names = [f"{i:05d}.png" for i in range(5)]
    folders = [
        tmp_path / "validated" / "masks" / "val_001",
        evaluated / "masks" / "val_001",
        tmp_path / "segmented" / "masks",
    ]
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == names
    for name in names:
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name
    assert len(np.unique(np.asarray(Image.open(folders[0] / names[0])))) == 3


def test_masks_have_the_names_of_the_images_and_go_back_in(trained_run: TrainedRun, tmp_path: Path) -> None:
    frames, mask = tmp_path / "frames", np.zeros((65, 97), np.uint8)
    frames.mkdir()
    mask[10:30, 10:40] = 4
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for index, path in enumerate(sorted(trained_run.frames("val_000").iterdir())):
        Image.open(path).resize((97, 65)).save(frames / f"{5 * index:04}.png")
    segment = ("segment", f"video={frames}", "model=copy_first")
    program(*segment, f"mask={tmp_path / 'mask.png'}", f"output={tmp_path / 'one'}")
    made = sorted(path.name for path in (tmp_path / "one" / "masks").iterdir())
    assert made == [f"{5 * index:04}.png" for index in range(5)]
    again = program(*segment, f"mask={tmp_path / 'one' / 'masks'}", f"output={tmp_path / 'one'}")
    assert "5 masks of an earlier run are kept" in again.stdout


def test_segment_a_video_file_with_late_objects_and_white_masks(trained_run: TrainedRun, tmp_path: Path) -> None:
    clip, masks = tmp_path / "clip (1), new.mp4", tmp_path / "given masks"
    masks.mkdir()
    white = np.zeros((60, 90), np.uint8)
    white[10:30, 10:40] = 255
    Image.fromarray(white).save(masks / "00001.png")
    late = np.zeros((60, 90), np.uint8)
    late[40:60, 50:90] = 7
    Image.fromarray(late).save(masks / "3.png")
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=30, width=98, height=66, options={"bf": "2"})
        for path in sorted(trained_run.frames("val_000").iterdir()):
            frame = av.VideoFrame.from_image(Image.open(path).resize((98, 66)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    wrong = tmp_path / "wrong"
    done = program("segment", f"video={clip}", f"mask={masks}", "model=copy_first", f"output={wrong}", code=2)
    assert "the mask is 90 x 60, the video 98 x 66" in done.stderr
    assert not list(wrong.iterdir()), "masks are checked before anything is written"
    for path in masks.iterdir():
        Image.open(path).resize((98, 66), Image.Resampling.NEAREST).save(path)
    output = tmp_path / "out put"
    done = program("segment", f"video={clip}", f"mask={masks}", "model=copy_first", f"output={output}")
    assert "5 frames" in done.stdout
    ids = [set(np.unique(np.asarray(Image.open(path)))) for path in sorted((output / "masks").iterdir())]
    assert ids == [{0}, {0, 255}, {0, 255}, {0, 7, 255}, {0, 7, 255}]
    with av.open(str(output / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 30
        assert sum(1 for _ in container.decode(stream)) == 5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["evaluate", "model=copy_first", "data=davis2017", "paths.data=/nowhere", "output={tmp}"],
            "/nowhere/DAVIS: no such",
        ),
        (["evaluate", "checkpoint={tmp}/none.ckpt", "data=davis2017", "output={tmp}"], "none.ckpt: no such"),
        (["evaluate", "data=davis2017", "output={tmp}"], "give either checkpoint=FILE or model=NAME"),
        (["segment", "video={tmp}/no.mp4", "mask=m.png", "model=copy_first", "output={tmp}"], "no.mp4: no such"),
        (["train", "model=crvso"], "crvso"),
        (["train", "model.network.backbon=resnet18"], "backbon"),
        (
            ["train", "trainer=cpu", "model.network.backbone=resnet9", "hydra.run.dir={tmp}"],
            "unknown backbone 'resnet9'",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(tmp_path: Path, arguments: list[str], reason: str) -> None:
    done = program(*(argument.format(tmp=tmp_path) for argument in arguments), code=2)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert reason in last
    assert "Traceback" not in done.stderr


def test_a_checkpoint_of_another_method_or_a_broken_one_is_refused(
    run: Run, trained_run: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / "cut.ckpt").write_bytes(trained_run.checkpoint.read_bytes()[:5000])
    for arguments, reason in (
        ([f"checkpoint={tmp_path}/cut.ckpt"], "damaged"),
        (["model=copy_first", f"weights={trained_run.checkpoint}"], "a checkpoint of 'crvos', not of 'copy_first'"),
        (["model=crvos", f"weights={trained_run.checkpoint}"], "does not fit this network"),
    ):
        assert reason in run("evaluate", *arguments, *trained_run.davis, f"output={tmp_path}")


def test_stages_chain_and_runs_resume(trained_run: TrainedRun, tmp_path: Path) -> None:
    chained, resumed = tmp_path / "chained", tmp_path / "resumed"
    small = (*SMALL, *trained_run.davis, *CLIPS, "engine.size=60", "test=null")
    program("train", *small, f"weights={trained_run.checkpoint}", f"hydra.run.dir={chained}", "trainer.max_epochs=0")
    studies = tmp_path / "experiments"
    longer = ("trainer.max_epochs=2", f"paths.experiments={studies}")
    program("train", *small, f"resume={trained_run.run}", f"hydra.run.dir={resumed}", *longer)
    content = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    assert (content["epoch"], content["global_step"]) == (1, 4)
    [path] = (studies / "trial" / "records").iterdir()
    record = json.loads(path.read_text())
    assert record["data"]["sequences"] == 2, "the study's name is that of the first run; validated videos are recorded"
    assert {row["sequence"] for row in record["per_sequence"]} == {"val_000", "val_001"}


def test_training_starts_from_the_given_weights(trained_run: TrainedRun) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [*SMALL, quote_path(f"weights={trained_run.checkpoint}")])
    module = training_module(config)
    assert module.pretrained
    loaded = from_checkpoint(trained_run.checkpoint).segmenter
    assert isinstance(loaded, torch.nn.Module)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, module.segmenter.state_dict()[key]), key


def test_half_precision_weights_are_a_checkpoint_too(trained_run: TrainedRun, tmp_path: Path) -> None:
    merge([trained_run.checkpoint], tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.3 * trained_run.checkpoint.stat().st_size
    whole, half = (from_checkpoint(path) for path in (trained_run.checkpoint, tmp_path / "half.safetensors"))
    assert half.settings == whole.settings
    assert isinstance(whole.segmenter, torch.nn.Module)
    assert isinstance(half.segmenter, torch.nn.Module)
    for key, value in whole.segmenter.state_dict().items():
        assert torch.equal(half.segmenter.state_dict()[key], value.half().float()), key


@pytest.mark.slow
def test_wandb_works_offline(trained_run: TrainedRun, tmp_path: Path) -> None:
    short = ("trainer.limit_train_batches=1", "engine.size=60", "logger=wandb")
    small, first, second = (*SMALL, *trained_run.davis, *CLIPS, *short), tmp_path / "first", tmp_path / "second"
    program("train", *small, f"hydra.run.dir={first}", "trainer.max_epochs=1")
    program("train", *small, f"hydra.run.dir={second}", "trainer.max_epochs=2", f"resume={first}", "test=null")
    [id_] = {(folder / "wandb" / "run_id").read_text().strip() for folder in (first, second)}
    for folder in (first, second):
        [run] = (folder / "wandb").glob("offline-run-*")
        assert [path.name for path in run.glob("*.wandb")] == [f"run-{id_}.wandb"]
        assert list((run / "files" / "media").rglob("*.png"))
    [run] = (first / "wandb").glob("offline-run-*")
    assert list((run / "files" / "media").rglob("per_sequence*.table.json"))


@pytest.mark.slow
def test_two_processes_evaluate_like_one(
    trained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The number of threads decides the order of summation, and Lightning divides the cores among its processes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one, two = (tmp_path / trainer for trainer in ("cpu", "ddp_cpu"))
    for output in (one, two):
        arguments = (
            f"checkpoint={trained_run.checkpoint}",
            *trained_run.davis,
            f"output={output}",
            f"trainer={output.name}",
        )
        program("evaluate", *arguments)
    assert (one / "per_sequence.csv").read_text() == (two / "per_sequence.csv").read_text()
    masks = sorted((one / "masks").rglob("*.png"))
    assert len(masks) == 10
    for path in masks:
        assert (two / path.relative_to(one)).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_two_processes_train_on_the_batches_of_one(trained_run: TrainedRun, tmp_path: Path) -> None:
    weights = []
    for trainer in ("cpu", "ddp_cpu"):
        run = tmp_path / trainer
        # SGD, as Adam turns the smallest difference of summation order into one of the size of its step.
        optimizer = ("model.training.optimizer._target_=torch.optim.SGD", "model.training.optimizer.lr=0.01")
        common = (*SMALL[:-1], *trained_run.davis, *CLIPS, *optimizer, "engine.size=60", "test=null")
        limits = ("trainer.max_epochs=2", "trainer.limit_val_batches=1")
        program("train", *common, *limits, f"trainer={trainer}", f"hydra.run.dir={run}")
        weights.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    for key, value in weights[0].items():
        assert torch.allclose(value, weights[1][key], atol=1e-5), key
