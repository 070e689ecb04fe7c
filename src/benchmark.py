"""`python -m src.benchmark`: see `voslab.cli.benchmark`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("benchmark")
