"""`python -m src.benchmark`: see `voslab.cli.benchmark`."""

from voslab.cli.benchmark import main

if __name__ == "__main__":
    main()
