"""`python -m src.merge`: see `voslab.cli.merge`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("merge")
