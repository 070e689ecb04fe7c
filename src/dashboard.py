"""`python -m src.dashboard`: see `voslab.cli.dashboard`."""

from voslab.cli.entry import run

if __name__ == "__main__":
    run("dashboard")
