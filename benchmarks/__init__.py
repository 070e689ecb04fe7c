"""Speed and memory, each measured as a ratio against something in the same run: `python -m benchmarks.NAME`."""

import src  # noqa: F401 (finds voslab in a bare checkout)
