"""The command `voslab NAME …`: runs `voslab.cli.NAME` as `python -m` would, so that it can start itself again."""

from __future__ import annotations

import runpy
import sys

from voslab import __version__

PROGRAMS = {
    "train": "fit, validate and test a method",
    "evaluate": "score a model, or masks that exist, on a data set",
    "segment": "propagate given masks through a video",
    "prepare": "report, unpack and check data sets",
    "benchmark": "measure speed and memory",
    "report": "rebuild the pages of experiments/",
    "dashboard": "write the dashboards as an HTML page, or to W&B",
    "export": "write safetensors and ONNX files",
}


def main() -> None:
    """Run one of the programs; exit code 2 for a name that is none of them."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in {"--help", "-h"}:
        print("usage: voslab NAME [key=value ...]\n")
        print("\n".join(f"  {program:<10} {text}" for program, text in PROGRAMS.items()))
        print("\n`voslab NAME --help` lists the options of a program.")
    elif name in {"--version", "-V"}:
        print(f"voslab {__version__}")
    elif name in PROGRAMS:
        del sys.argv[1]
        runpy.run_module(f"voslab.cli.{name}", run_name="__main__", alter_sys=True)
    else:
        print(f"error: voslab {name}: no such program (there are {', '.join(PROGRAMS)})", file=sys.stderr)
        sys.exit(2)
