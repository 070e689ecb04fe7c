"""`python -m src.export`: see `voslab.cli.export`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("export")
