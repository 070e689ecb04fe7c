"""`python -m src.segment`: see `voslab.cli.segment`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("segment")
