"""The command `voslab NAME …`, also `python -m voslab NAME …`."""

from voslab.cli.main import main

if __name__ == "__main__":
    main()
