"""Proposes masks with a Segment Anything model (Kirillov et al., 2023) that the user has as two ONNX files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError
from voslab.studio.proposer import Prompt

_SIDE = 1024  # of the encoder's image, which is padded at the right and at the bottom
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_LOW = 256  # side of the decoder's mask input
_CERTAIN = 10.0  # logit of the mask that is corrected
_NEGATIVE, _POSITIVE, _TOP_LEFT, _BOTTOM_RIGHT, _PADDING = 0, 1, 2, 3, -1
_INPUTS = {"image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"}


class SegmentAnything:
    """Proposes masks with an encoder and a decoder of the official layout.

    The encoder takes a normalised image, 1 3 1024 1024. The decoder has the inputs and outputs of the official ONNX
    export. Of several masks, the one with the highest predicted IoU is taken. The embedding of the last image is kept.

    Args:
        encoder: Session of onnxruntime.
        decoder: Session of onnxruntime.

    Raises:
        ConfigError: If the inputs are not those of the official layout.
    """

    def __init__(self, encoder: Any, decoder: Any) -> None:
        images = encoder.get_inputs()
        if len(images) != 1 or len(images[0].shape) != 4:
            raise ConfigError("proposer.encoder: must have one input, an image of 1 x 3 x 1024 x 1024")
        if missing := sorted(_INPUTS - {each.name for each in decoder.get_inputs()}):
            raise ConfigError(f"proposer.decoder: has no input '{missing[0]}' of the official ONNX export")
        self._encoder, self._decoder = encoder, decoder
        self._input = images[0].name
        self._last: tuple[bytes, Any] | None = None

    @classmethod
    def load(cls, encoder: Path, decoder: Path) -> SegmentAnything:
        """Load both files, to run on the CPU.

        Args:
            encoder: ONNX file of the image encoder.
            decoder: ONNX file of the prompt encoder and mask decoder.

        Raises:
            ConfigError: If onnxruntime is missing, or a file cannot be read or has another layout.
        """
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ConfigError("proposer.encoder needs onnxruntime: pip install 'voslab[export]'") from error
        sessions = []
        for name, path in (("encoder", encoder), ("decoder", decoder)):
            if not path.is_file():
                raise ConfigError(f"proposer.{name}={path}: no such file")
            try:
                sessions.append(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))
            except Exception as error:  # onnxruntime raises arbitrary exceptions on damaged files
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise ConfigError(f"proposer.{name}={path}: no ONNX model ({reason})") from error
        return cls(*sessions)

    def propose(self, image: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.bool_]:
        """See `Proposer.propose`."""
        height, width = image.shape[:2]
        factor = _SIDE / max(height, width)
        points = [(click.x, click.y, _POSITIVE if click.positive else _NEGATIVE) for click in prompt.clicks]
        if prompt.box is None:
            inside = any(0 <= x < width and 0 <= y < height and label == _POSITIVE for x, y, label in points)
            if not inside and (prompt.mask is None or not prompt.mask.any()):
                raise DataError("the prompt has neither a box nor a positive click inside the image")
            points.append((0.0, 0.0, _PADDING))
        else:
            left, top, right, bottom = prompt.box
            points += [(left, top, _TOP_LEFT), (right, bottom, _BOTTOM_RIGHT)]
        coordinates = np.array([[(x * factor, y * factor) for x, y, _ in points]], np.float32)
        before, given = self._mask_input(prompt.mask, factor)
        names = [each.name for each in self._decoder.get_outputs()]
        values = self._decoder.run(
            None,
            {
                "image_embeddings": self._embedding(image, factor),
                "point_coords": coordinates,
                "point_labels": np.array([[label for _, _, label in points]], np.float32),
                "mask_input": before,
                "has_mask_input": np.array([given], np.float32),
                "orig_im_size": np.array([height, width], np.float32),
            },
        )
        outputs = dict(zip(names, values, strict=True))
        mask: NDArray[np.bool_] = outputs["masks"][0, int(outputs["iou_predictions"][0].argmax())] > 0
        return mask

    def _embedding(self, image: NDArray[np.uint8], factor: float) -> Any:
        key = hashlib.blake2b(image.tobytes()).digest()
        if self._last is None or self._last[0] != key:
            size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
            scaled = (cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) - np.array(_MEAN)) / np.array(_STD)
            padded = np.zeros((1, 3, _SIDE, _SIDE), np.float32)
            padded[0, :, : size[1], : size[0]] = scaled.transpose(2, 0, 1)
            self._last = key, self._encoder.run(None, {self._input: padded})[0]
        return self._last[1]

    def _mask_input(self, mask: NDArray[np.bool_] | None, factor: float) -> tuple[NDArray[np.float32], float]:
        """Return the mask that is corrected as logits in the decoder's size, and whether there is one."""
        logits = np.zeros((1, 1, _LOW, _LOW), np.float32)
        if mask is None or not mask.any():
            return logits, 0.0
        scale = factor * _LOW / _SIDE
        size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
        small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        logits[:] = -_CERTAIN
        logits[0, 0, : size[1], : size[0]] = _CERTAIN * (2 * small - 1)
        return logits, 1.0
