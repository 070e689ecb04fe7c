"""The command `voslab NAME …`: runs one of the programs of `voslab.cli`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from voslab import __version__
from voslab.cli.entry import run

PROGRAMS = {
    "train": "fit, validate and test a method",
    "evaluate": "score a model, or masks that exist, on a data set",
    "segment": "propagate given masks through a video",
    "prepare": "report, unpack and check data sets",
    "benchmark": "measure speed and memory",
    "report": "rebuild the pages of experiments/",
    "annotate": "make, propagate, correct and export masks on a page in the browser",
    "dashboard": "write the dashboards as an HTML page, or to W&B",
    "merge": "average checkpoints, and write the network for release",
    "export": "write safetensors and ONNX files",
}


def main() -> None:
    """Run the program that the first argument names; exit code 2 for any other name."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in {"--help", "-h"}:
        print("usage: voslab NAME [key=value ...]\n")
        print("\n".join(f"  {program:<10} {text}" for program, text in PROGRAMS.items()))
        print("\n`voslab NAME --help` lists the options of a program.")
    elif name in {"--version", "-V"}:
        print(f"voslab {__version__}")
    elif name in PROGRAMS:
        del sys.argv[1]
        # Lightning starts the other processes of a run with `python -m` and the name in this spec.
        sys.modules["__main__"].__spec__ = find_spec(f"voslab.cli.{name}")
        run(name)
    else:
        print(f"error: voslab {name}: no such program (there are {', '.join(PROGRAMS)})", file=sys.stderr)
        sys.exit(2)
