"""Rebuilds a LightningModule from a checkpoint of this project."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from torch.nn import Parameter

from voslab.core import CheckpointError, ConfigError
from voslab.methods import registry
from voslab.methods.builder import CACHE, read_model
from voslab.training.evaluation import EvaluationModule
from voslab.training.recipe import Recipe


class RestorableModule(EvaluationModule):
    """A module that `load_from_checkpoint` rebuilds from nothing but the file.

    A checkpoint holds the registry name and the plain parameters of its network, from which the method is built here.
    It never names a class, so a file cannot run code of its own.
    """

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str | None = None,
        *,
        recipe: Recipe | None = None,
        cache: str | Path = CACHE,
    ) -> Self:
        """Build the module with the network, engine settings and weights of a checkpoint.

        Args:
            checkpoint_path: checkpoint of a training, or a safetensors file of this project.
            map_location: device of the module; None for the CPU.
            recipe: training settings; needed only to train on.
            cache: folder for videos that are encoded for a method with codec data.

        Returns:
            The module. For a base class, such as `VOSModule`, it is an instance of the method's own class.

        Raises:
            CheckpointError: if the file cannot be read, or is of a method that this class does not train.

        Example:
            >>> from voslab.core.resources import resource
            >>> from voslab.methods.stcn.module import STCNModule
            >>> module = STCNModule.load_from_checkpoint(resource("weights/lite_stcn.safetensors"))
            >>> module.hparams["method"], module.hparams["network"]["backbone"]
            ('stcn', 'efficientnet_lite0')
        """
        path = Path(checkpoint_path)
        model = read_model(path, Path(cache))
        trains: Any = registry.method(model.name).module()
        if trains is None or not issubclass(trains, cls):
            raise CheckpointError(f"{path}: a checkpoint of '{model.name}', which {cls.__name__} does not train")
        module: Any = trains(
            segmenter=model.segmenter,
            recipe=recipe or Recipe(_without_recipe),
            settings=model.settings,
            metadata=model.metadata,
            pretrained=True,
            codec_source=model.codec_source,
        )
        return module.to(map_location or "cpu")  # type: ignore[no-any-return]


def _without_recipe(parameters: Iterable[Parameter]) -> NoReturn:
    raise ConfigError("the module was loaded without a recipe: to train it, use load_from_checkpoint(FILE, recipe=…)")
