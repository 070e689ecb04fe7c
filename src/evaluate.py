"""`python -m src.evaluate`: see `voslab.cli.evaluate`."""

from voslab.cli.evaluate import main

if __name__ == "__main__":
    main()
