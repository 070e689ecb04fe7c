"""`python -m src.segment`: see `voslab.cli.segment`."""

from voslab.cli.segment import main

if __name__ == "__main__":
    main()
