"""`python -m src.report`: see `voslab.cli.report`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("report")
