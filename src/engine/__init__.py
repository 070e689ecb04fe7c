"""Runs a segmenter over a video: working size, padding, ids, progress, sinks. The only inference path there is.

from src.engine import Settings, run

for prediction in run(segmenter, pictures, {0: first_mask}, Settings(size=480)):
    show(prediction.image, prediction.ids)
"""

from src.engine.padding import Pads, crop, pad
from src.engine.runner import Prediction, Throughput, run
from src.engine.settings import Settings
from src.engine.sinks import OverlaySink, Sink, drain, mask_sink

__all__ = [
    "OverlaySink",
    "Pads",
    "Prediction",
    "Settings",
    "Sink",
    "Throughput",
    "crop",
    "drain",
    "mask_sink",
    "pad",
    "run",
]
