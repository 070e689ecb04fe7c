"""A laboratory for semi-supervised video object segmentation (VOS).

Example:
    >>> import numpy as np
    >>> from voslab import Predictor
    >>> video = [np.zeros((24, 32, 3), np.uint8)] * 3
    >>> mask = np.zeros((24, 32), np.uint8)
    >>> mask[8:16, 8:16] = 1
    >>> predictor = Predictor.load(model="copy_first")
    >>> [int((p.ids == 1).sum()) for p in predictor.segment(video, {0: mask})]
    [64, 64, 64]
"""

from typing import TYPE_CHECKING

from voslab.lazy import lazy_exports

if TYPE_CHECKING:
    from voslab.configs import compose as compose
    from voslab.engine.prediction import Prediction as Prediction
    from voslab.factory import datamodule as datamodule
    from voslab.factory import lightning_module as lightning_module
    from voslab.predictor import Predictor as Predictor

__version__ = "0.2.0"
__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "configs": ["compose"],
        "engine.prediction": ["Prediction"],
        "factory": ["datamodule", "lightning_module"],
        "predictor": ["Predictor"],
    },
)
