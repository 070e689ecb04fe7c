"""`python -m src.annotate`: see `voslab.cli.annotate`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("annotate")
