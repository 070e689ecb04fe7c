"""Engine settings, which checkpoints store so that evaluation repeats validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from voslab.core.errors import CheckpointError, ConfigError
from voslab.core.parameters import check_parameters

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class Settings:
    """Engine settings.

    Attributes:
        size: working size: length in pixels of a frame's shorter side (the height of landscape video). Smaller
            frames are never enlarged. None: always the source size.
        precision: the network's arithmetic, through autocast.
        temperature: divisor T of the logits where probabilities are asked for, softmax(logits / T), which makes them
            agree with the share of right pixels (Guo et al. 2017). Masks do not depend on it.

    Raises:
        ConfigError: for a size below 1, an unknown precision, or a temperature that is not positive.
    """

    size: int | None = 480
    precision: Precision = "fp32"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ConfigError(f"engine.size={self.size}: must be at least 1 pixel")
        if self.precision not in _DTYPES:
            raise ConfigError(f"engine.precision={self.precision}: choose from {', '.join(_DTYPES)}")
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"engine.temperature={self.temperature}: must be positive")

    @staticmethod
    def from_dict(values: Mapping[str, Any], where: Path | str) -> Settings:
        """Create settings from the values in a file.

        Args:
            values: fields of this class.
            where: file to name in errors.

        Returns:
            the settings.

        Raises:
            CheckpointError: if a name or value is unknown.
        """
        try:
            check_parameters(Settings, values, "engine.")
            return Settings(**values)
        except ConfigError as error:
            raise CheckpointError(f"{where}: {error}") from error

    @property
    def dtype(self) -> torch.dtype:
        """The autocast type."""
        import torch

        dtype: torch.dtype = getattr(torch, _DTYPES[self.precision])
        return dtype

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Compute the working size of a source.

        Args:
            size: H W of the source.

        Returns:
            H W, with the same aspect ratio to the nearest pixel.
        """
        shorter = min(size)
        if self.size is None or shorter <= self.size:
            return size
        height, width = (max(1, round(n * self.size / shorter)) for n in size)
        return height, width
