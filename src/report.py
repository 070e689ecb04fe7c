"""`python -m src.report`: see `voslab.cli.report`."""

from voslab.cli.report import main

if __name__ == "__main__":
    main()
