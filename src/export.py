"""`python -m src.export`: see `voslab.cli.export`."""

from voslab.cli.export import main

if __name__ == "__main__":
    main()
