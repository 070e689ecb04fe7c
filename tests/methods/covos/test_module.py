from __future__ import annotations

import copy
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from tests.methods.covos.world import BASE, F
from voslab.core import VOID, ConfigError, Frame
from voslab.core.checkpoint import CheckpointMetadata
from voslab.data.sources.synthetic.generated import generated
from voslab.data.video_sequence import VideoSequence
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.methods import registry
from voslab.methods.covos.cache.crops import CachedBFrameCrops, CropSettings, Video, collate_cached
from voslab.methods.covos.cache.datamodule import CachedBFrameDataModule
from voslab.methods.covos.cache.files import cached_frames, frame_path, read_cached
from voslab.methods.covos.cache.precompute import precompute_all, settings_key, video_name
from voslab.methods.covos.module import CoVOSModule
from voslab.methods.covos.network import CoVOS, CoVOSState
from voslab.nn.losses import nll
from voslab.training.recipe import Recipe
from voslab.video import write_mask
from voslab.video.encode import Encoding

SETTINGS = Settings(size=48)
ENCODING = {"crf": 20.0, "bframes": 3, "b_adapt": 0}
NETWORK: dict[str, Any] = {"base": {"name": "stcn", "network": {**BASE, "memory_every": 2}}, **F}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoSequence, ...]:
    root = tmp_path_factory.mktemp("world") / "data"
    return generated(root, train=3, val=1, frames=9, size=(64, 96), objects=(2, 2))


@pytest.fixture(scope="module")
def codec_source(tmp_path_factory: pytest.TempPathFactory) -> CodecSource:
    return CodecSource(tmp_path_factory.mktemp("coded"), Encoding(**ENCODING))  # type: ignore[arg-type]


def network(seed: int = 0) -> CoVOS:
    torch.manual_seed(seed)
    built: Any = registry.build("covos", NETWORK)
    return built.eval()  # type: ignore[no-any-return]


def module(made: CoVOS, lr: float = 3e-3, codec: dict[str, Any] | None = None) -> CoVOSModule:
    recipe = Recipe(partial(torch.optim.Adam, lr=lr))
    return CoVOSModule(made, recipe, SETTINGS, CheckpointMetadata("covos", NETWORK, codec=codec), True)


@pytest.fixture(scope="module")
def folders(
    videos: tuple[VideoSequence, ...], codec_source: CodecSource, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    return precompute_all(network(), videos, tmp_path_factory.mktemp("cache"), codec_source, SETTINGS)


def opened(folders: list[Path], size: tuple[int, int] = (48, 80), slots: int = 2) -> CachedBFrameCrops:
    return CachedBFrameCrops(
        tuple(Video(folder, cached_frames(folder) or ()) for folder in folders), CropSettings(size, slots)
    )


def test_exactly_the_b_frames_are_cached(
    videos: tuple[VideoSequence, ...], codec_source: CodecSource, folders: list[Path]
) -> None:
    for video, folder in zip(videos, folders, strict=True):
        types = {frame.index: frame.codec.type for frame in codec_source.frames(video.images) if frame.codec}
        assert cached_frames(folder) == tuple(sorted(index for index, kind in types.items() if kind == "B"))
        assert cached_frames(folder)


class Watched(CoVOS):
    """Notes what it answers."""

    answers: dict[int, Tensor]

    def step(self, frame: Frame, state: CoVOSState) -> tuple[Tensor, CoVOSState]:
        logits, state = super().step(frame, state)
        self.answers[frame.index] = logits
        return logits, state


def test_decoding_a_cached_frame_equals_the_network(
    videos: tuple[VideoSequence, ...], codec_source: CodecSource, folders: list[Path]
) -> None:
    live: Any = network()
    live.__class__ = Watched
    live.answers = {}
    for _ in run(live, codec_source.frames(videos[0].images), videos[0].given_masks(), SETTINGS):
        pass
    trained: Any = module(network()).eval()
    for index in cached_frames(folders[0]) or ():
        b_frame = read_cached(frame_path(folders[0], index))
        slot_mask = torch.ones(2, dtype=torch.bool)
        batch = collate_cached([opened(folders[:1])[0, 0]._replace(b_frame=b_frame, slot_mask=slot_mask)])
        with torch.no_grad():
            ours = trained.decode(batch)
        assert ours.shape == live.answers[index].shape == (1, 3, 48, 80)
        # Half precision rounds V, V̂ and patches by at most 2^-11 of their size; log-odds are of size 10 here.
        assert torch.allclose(ours, live.answers[index], atol=10 * 2**-11), index


def test_labels_have_working_size_and_void_padding(videos: tuple[VideoSequence, ...], folders: list[Path]) -> None:
    index = (cached_frames(folders[1]) or ())[0]
    labels = read_cached(frame_path(folders[1], index)).labels
    truth = videos[1].labels(index)
    assert truth is not None
    assert labels.shape == (48, 80)
    assert (labels[:, :4] == VOID).all()
    assert (labels[:, 76:] == VOID).all()
    inside = torch.nn.functional.interpolate(
        torch.from_numpy(truth)[None, None].float(), (48, 72), mode="nearest-exact"
    )
    assert torch.equal(labels[:, 4:76], inside[0, 0].byte())
    assert set(labels.flatten().tolist()) == {0, 1, 2, VOID}


def test_void_of_the_source_is_void_in_the_cache(
    videos: tuple[VideoSequence, ...], codec_source: CodecSource, tmp_path: Path
) -> None:
    masks = tuple(tmp_path / f"{index:05}.png" for index in range(len(videos[0])))
    for index, path in enumerate(masks):
        labels = videos[0].labels(index)
        assert labels is not None
        labels[:8] = VOID
        write_mask(path, labels)
    video = replace(videos[0], masks=masks, void=VOID)
    [folder] = precompute_all(network(), [video], tmp_path / "cache", codec_source, SETTINGS)
    for index in cached_frames(folder) or ():
        cached = read_cached(frame_path(folder, index)).labels
        assert (cached[:6] == VOID).all()
        assert (cached[6:, 4:76] != VOID).all()


def test_training_step_changes_only_the_decoder(folders: list[Path]) -> None:
    trained: Any = module(network()).train()
    before = copy.deepcopy(trained.segmenter.state_dict())
    optimizer: Any = trained.configure_optimizers()
    batch = collate_cached([opened(folders)[0, i] for i in range(4)])
    loss: Any = nll(trained.decode(batch), batch.labels)
    loss.backward()
    optimizer.step()
    changed = {key for key, value in trained.segmenter.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if key.startswith("decoder.")}


def test_loss_decreases(folders: list[Path]) -> None:
    trained: Any = module(network(1)).train()
    optimizer: Any = trained.configure_optimizers()
    batch = collate_cached([opened(folders)[0, i] for i in range(6)])
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = trained.loss(trained.decode(batch), batch.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_interrupted_precomputation_resumes(
    videos: tuple[VideoSequence, ...], codec_source: CodecSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = network()
    first = precompute_all(made, videos[:1], tmp_path, codec_source, SETTINGS)[0]
    kept = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    half = tmp_path / video_name(videos[1])
    half.mkdir()
    frame_path(half, 1).write_bytes(b"left over")
    caplog.clear()
    done = precompute_all(made, videos[:2], tmp_path, codec_source, SETTINGS)
    assert done == [first, half]
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == kept
    assert [record.message.split(":")[0] for record in caplog.records] == [f"cached {videos[1].name}"]
    assert read_cached(frame_path(half, (cached_frames(half) or ())[0])).probs.shape == (2, 12, 20)
    caplog.clear()
    precompute_all(made, videos[:2], tmp_path, codec_source, SETTINGS)
    assert not caplog.records


def test_processes_share_the_videos(
    videos: tuple[VideoSequence, ...], codec_source: CodecSource, tmp_path: Path
) -> None:
    made = network()
    for rank in range(2):
        folders = precompute_all(made, videos, tmp_path, codec_source, SETTINGS, (rank, 2), per_video=3)
        finished = [cached_frames(folder) is not None for folder in folders]
        assert sum(finished) == (2 if rank == 0 else 3)
    assert all(len(cached_frames(folder) or ()) <= 3 for folder in folders)


def test_cache_key_depends_on_all_relevant_settings(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    made, metadata = network(), CheckpointMetadata("covos", NETWORK, codec={"encoding": ENCODING})
    key = settings_key(made, metadata, SETTINGS)
    assert settings_key(network(), metadata, SETTINGS) == key
    others = [
        settings_key(network(1), metadata, SETTINGS),
        settings_key(made, replace(metadata, codec={"encoding": {**ENCODING, "crf": 21}}), SETTINGS),
        settings_key(made, replace(metadata, network={**NETWORK, "bilinear": True}), SETTINGS),
        settings_key(made, metadata, Settings(size=64)),
    ]
    assert len({key, *others}) == 5
    assert made.decoder is not None
    torch.nn.init.zeros_(made.decoder.conv1.weight)
    assert settings_key(made, metadata, SETTINGS) == key, "the decoder is what trains"
    assert len({video_name(videos[0]), video_name(videos[0], 3), video_name(videos[1])}) == 3
    (tmp_path / "vectors.npz").write_bytes(b"1")
    first = video_name(videos[0], vectors=tmp_path / "vectors.npz")
    (tmp_path / "vectors.npz").write_bytes(b"12")
    assert len({first, video_name(videos[0], vectors=tmp_path / "vectors.npz"), video_name(videos[0])}) == 3


def trainer(root: Path, **more: Any) -> L.Trainer:
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    ours: dict[str, Any] = {"accelerator": "cpu", "use_distributed_sampler": False, "num_sanity_val_steps": 0}
    return L.Trainer(default_root_dir=root, **quiet, **ours, **more)


def test_the_trainer_caches_trains_and_validates_over_coded_video(
    videos: tuple[VideoSequence, ...], tmp_path: Path
) -> None:
    made = module(network(), codec={"encoding": ENCODING})
    crop = CropSettings((32, 48), 3)
    data = CachedBFrameDataModule(tmp_path, crop, videos, videos[:1], batch_size=2, num_workers=0, samples_per_epoch=4)
    trainer(tmp_path, max_epochs=1).fit(made, datamodule=data)
    assert len(list((tmp_path / "covos").glob("*/*/index.json"))) == 3
    assert made.global_step == 2
    assert 0 <= made.results["J-Mean"] <= 1


def test_invalid_training_setups_are_refused_early(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    data = CachedBFrameDataModule(tmp_path, CropSettings((32, 48)), videos, batch_size=2, num_workers=0)
    with pytest.raises(ConfigError, match="without an encoding and refine=true there is nothing to train"):
        trainer(tmp_path, max_epochs=1).fit(module(network()), datamodule=data)
