"""`python -m src.prepare`: see `voslab.cli.prepare`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("prepare")
