"""Makes `python -m src.train …` work in a bare checkout: nothing needs to be installed but the lock file."""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib would slow the start of every program)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)
