"""Data sets on disk, and the clips and sequences made of them.

Here are the sources and what training and evaluation read of them; `worlds/` generates videos, `carried/` keeps what a
codec's motion carried, `preparation/` says what of a data set is there. Openers (`src.data.davis.davis`, …) and the
Lightning `src.data.datamodule.VOSDataModule` are imported from their own files.
"""

from src.data.clips import ClipDataset, ClipItem, ClipSettings, ClipSource, RawClip, VideoClips, collate
from src.data.samplers import EvaluationSampler, TrainSampler
from src.data.sampling import Curriculum, choose_objects, sample_frames
from src.data.sequence import EvaluationItem, Sequence
from src.data.transforms import Augmentation, ClipTransform, build

__all__ = [
    "Augmentation",
    "ClipDataset",
    "ClipItem",
    "ClipSettings",
    "ClipSource",
    "ClipTransform",
    "Curriculum",
    "EvaluationItem",
    "EvaluationSampler",
    "RawClip",
    "Sequence",
    "TrainSampler",
    "VideoClips",
    "build",
    "choose_objects",
    "collate",
    "sample_frames",
]
