"""`python -m src.train`: see `voslab.cli.train`."""

from voslab.cli.train import main

if __name__ == "__main__":
    main()
