"""`python -m src.dashboard`: see `voslab.cli.dashboard`."""

from voslab.cli.dashboard import main

if __name__ == "__main__":
    main()
