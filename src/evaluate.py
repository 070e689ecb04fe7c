"""`python -m src.evaluate`: see `voslab.cli.evaluate`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("evaluate")
