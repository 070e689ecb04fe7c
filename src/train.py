"""`python -m src.train`: see `voslab.cli.train`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("train")
