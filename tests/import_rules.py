"""Import rules of the package. A module without a rule and an import that no rule allows are both faults."""

from __future__ import annotations

import ast
from pathlib import Path, PurePath

# The first pattern that matches a path below src/voslab decides. A value lists packages of voslab and other
# distributions of HEAVY; a method's own folder, `core`, `lazy` and everything not in HEAVY are always allowed.
RULES: dict[str, str] = {
    "__init__.py": "configs engine factory predictor",
    "__main__.py": "cli",
    "lazy.py": "",
    "configs.py": "cli hydra omegaconf",
    "factory.py": "cli configs data training omegaconf",
    "predictor.py": "configs engine methods nn video video_session omegaconf",
    "video_session.py": "engine methods video",
    "core/**": "",
    "video/mask_formats/rle.py": "pycocotools",
    "video/**": "av cv2",
    "metrics/**": "torchmetrics cv2",
    "nn/**": "",
    "data/datamodule.py": "video lightning",
    "data/clips/augmentation.py": "cv2 albumentations",
    "data/**": "video cv2",
    "engine/**": "video cv2",
    "methods/__init__.py": "",
    "methods/registry.py": "",
    "methods/checkpoint.py": "engine nn",
    "methods/builder.py": "engine nn methods",
    "methods/*/module.py": "nn engine data training lightning",
    "methods/covos/cache/**": "nn engine data video lightning",
    "methods/covos/inspection.py": "engine video",
    "methods/covos/panels.py": "engine video",
    "methods/adaptation/plots.py": "cv2",
    "methods/frtm/augmentation.py": "cv2",
    "methods/**": "nn",
    "training/restore.py": "methods",  # as a checkpoint names its method
    "training/**": "nn video metrics data engine lightning torchmetrics wandb",
    "reporting/**": "data matplotlib omegaconf",
    "studio/proposer.py": "cv2",
    "studio/segment_anything.py": "cv2 onnxruntime",
    "studio/frames.py": "cv2",
    "studio/frame_files.py": "video",
    "studio/project.py": "engine video",
    "studio/comparison.py": "engine video",
    "studio/internals.py": "engine cv2",
    "studio/dataset.py": "engine video cv2",
    "studio/propagation.py": "engine",
    "studio/guard.py": "starlette",
    "studio/workspace.py": "engine video video_session",
    "studio/server.py": "engine starlette",
    "dashboard/workspace.py": "wandb wandb_workspaces",
    "dashboard/**": "reporting video plotly",
    "cli/**": "* hydra omegaconf lightning onnx onnxruntime cv2",
}
HEAVY = {
    *("albumentations", "av", "cv2", "hydra", "lightning", "matplotlib", "omegaconf", "onnx", "onnxruntime"),
    *("onnxscript", "plotly", "pycocotools", "torchmetrics", "torchvision", "wandb", "wandb_workspaces"),
}


def rule(path: PurePath) -> str | None:
    """The rule of a module, by its path below src/voslab; None if there is none."""
    for pattern, allowed in RULES.items():
        folder = pattern.removesuffix("/**")
        inside = [str(parent) for parent in path.parents]
        if any(PurePath(parent).match(folder) for parent in inside[:-1]) if folder != pattern else path.match(pattern):
            if folder == pattern and len(path.parts) != len(PurePath(pattern).parts):
                continue
            return allowed
    return None


def faults(module: Path, package: Path) -> list[str]:
    """What a module imports and may not.

    Args:
        module: a file below `package`.
        package: the folder of voslab.

    Returns:
        One line per fault.
    """
    path = module.relative_to(package)
    allowed = rule(path)
    if allowed is None:
        return [f"{path}: no rule says what it may import"]
    words = set(allowed.split()) | {"core", "lazy"}
    found = []
    for name in _imports(module):
        top, _, rest = name.partition(".")
        if top in {"voslab", "src"}:
            parts = rest.split(".")
            own = path.parts[0] == parts[0] and (parts[0] != "methods" or _same_method(path, parts))
            if not (own or "*" in words or parts[0] in words or parts[0] == "__version__"):
                found.append(f"{path}: may not import {name}")
        elif top in HEAVY - words:
            found.append(f"{path}: may not import {name}")
    return found


def _same_method(path: PurePath, parts: list[str]) -> bool:
    shared = len(path.parts) == 2 or len(parts) == 1
    return shared or parts[1] == path.parts[1]


def _imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.level == 0 else {"voslab.relative"}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found
