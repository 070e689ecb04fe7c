"""`python -m src.prepare`: see `voslab.cli.prepare`."""

from voslab.cli.prepare import main

if __name__ == "__main__":
    main()
