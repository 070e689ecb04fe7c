"""`python -m tests.data.plain_trainer FOLDER PROCESSES` validates and trains with a trainer of default settings.

Every process writes the videos it scored, the results and the clips it trained on to `FOLDER/PROCESSES.RANK.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L

from tests.training.small import CLIPS, module, videos
from voslab.core import Clip
from voslab.data import EvaluationItem
from voslab.data.datamodule import VOSDataModule


class Recorder(L.Callback):
    """Notes the videos and clips of this process."""

    def __init__(self) -> None:
        self.scored: list[int] = []
        self.clips: list[str] = []

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: EvaluationItem, *_: Any
    ) -> None:
        if batch.index >= 0:
            self.scored.append(batch.index)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Clip, *_: Any) -> None:
        self.clips += [name.split()[0] for name in batch.names]


def main(folder: Path, processes: int) -> None:
    sequences = videos(folder / "videos", 5)
    recorder, network = Recorder(), module()
    data = VOSDataModule(CLIPS, sequences, sequences, batch_size=2, num_workers=0)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="auto" if processes == 1 else "ddp",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        callbacks=[recorder],
    )
    trainer.validate(network, datamodule=data, verbose=False)
    found = {"scored": list(recorder.scored), "J&F": network.results["J&F-Mean"]}
    trainer.fit(network, datamodule=data)
    found |= {"clips": recorder.clips}
    (folder / f"{processes}.{trainer.global_rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
