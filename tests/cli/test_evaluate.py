"""Tests of `src.evaluate` on splits without truth: packing and checking of submissions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.data.youtube_tree import FILMS, youtube_tree
from tests.test_cli import CLIPS, ROOT, SMALL, program
from voslab.cli.evaluate import pack_or_check
from voslab.cli.instantiate import instantiate
from voslab.core import ConfigError, DataError
from voslab.data.sources.synthetic.generated import generate

DOG = sorted(FILMS)[2]


def test_split_without_truth_is_packed_for_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    youtube_tree(tmp_path / "YouTube-VOS/2019")
    out, again = tmp_path / "out", tmp_path / "again"
    arguments = ("data=youtube_vos_valid", f"paths.data={tmp_path}")
    done = program("evaluate", "model=copy_first", *arguments, f"output={out}", "trainer=cpu")
    assert f"submission: {out}/submission.zip (3 sequences, no faults)" in done.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["J&F-Mean"], metrics["G-Mean"]) == (None, None)
    assert metrics["frames_per_second"] > 0

    def masks_that_exist(predictions: Path, *more: str) -> bool:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("evaluate", [*arguments, f"predictions={predictions}", *more])
        return pack_or_check(config, instantiate(config.data), again)

    assert masks_that_exist(out / "submission.zip")
    assert not again.exists()
    assert masks_that_exist(out / "masks")
    assert (again / "submission.zip").read_bytes() == (out / "submission.zip").read_bytes()
    (out / "masks" / DOG / "00041.png").unlink()
    capsys.readouterr()
    with pytest.raises(DataError, match=r"again/submission\.zip: would be rejected, 1 fault \(listed above\)"):
        masks_that_exist(out / "masks")
    assert capsys.readouterr().out == f"Annotations/{DOG}/00041.png: missing\n"
    with pytest.raises(ConfigError, match="masks to be scored must be in a folder, not a zip"):
        masks_that_exist(out / "submission.zip", "data.test.split=train_all_frames")
    assert not masks_that_exist(out / "masks", "data.test.split=train_all_frames")
    with pytest.raises(ConfigError, match="no such folder or zip"):
        masks_that_exist(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot be combined with checkpoint or model"):
        masks_that_exist(out / "masks", "model=copy_first")


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["cpu", "ddp_cpu"])
def test_stopped_evaluation_writes_no_metrics(tmp_path: Path, trainer: str) -> None:
    generate(tmp_path / "DAVIS", train=1, val=4, frames=40, size=(120, 200), objects=(1, 2))
    data = ("data=davis2017", f"paths.data={tmp_path}", f"output={tmp_path}/out", f"trainer={trainer}")
    command = [sys.executable, "-m", "src.evaluate", "model=stm", *data]
    begun = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while begun.poll() is None and not list(tmp_path.glob("out/masks/*/00001.png")) and time.monotonic() < deadline:
        time.sleep(0.1)
    begun.send_signal(signal.SIGTERM)
    said, _ = begun.communicate(timeout=60)
    assert begun.returncode == 143, said
    assert "stopped by SIGTERM" in said
    assert not (tmp_path / "out/metrics.json").exists()
    assert [path.name for path in tmp_path.glob("out/masks/*/*") if path.suffix != ".png"] == []


@pytest.mark.slow
def test_submission_is_equal_for_one_and_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One process would take all cores, two share them, and sums depend on the number of threads in their last bit.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    youtube_tree(tmp_path / "YouTube-VOS", {f"{name}{i}": film for name, film in FILMS.items() for i in range(3)})
    program(
        *("train", *SMALL, *CLIPS, "data.clip.augmentation.size=[32,48]", "data=youtube_vos", "trainer.max_epochs=1"),
        *(f"paths.data={tmp_path}", f"hydra.run.dir={tmp_path}/run"),
    )
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert 0 < metrics["J&F-Mean"] < 1
    for trainer in ("cpu", "ddp_cpu"):
        program(
            *("evaluate", f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", "data=youtube_vos_valid"),
            *(f"paths.data={tmp_path}", f"output={tmp_path}/{trainer}", f"trainer={trainer}"),
        )
    assert (tmp_path / "cpu/submission.zip").read_bytes() == (tmp_path / "ddp_cpu/submission.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "cpu/submission.zip") as archive:
        assert len(archive.namelist()) == 24
