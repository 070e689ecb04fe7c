"""Tests of how programs stop after a signal, with small processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

START = """
import os, signal, subprocess, sys, time
from voslab.core.signals import SIGNALS, Stopped, end_with_parent
SIGNALS.install(0.5)
"""


def start(code: str) -> subprocess.Popen[str]:
    """Start a program and wait for its first line."""
    command = [sys.executable, "-c", START + code]
    environment = {name: value for name, value in os.environ.items() if name != "VOSLAB_PARENT"}
    pipe = subprocess.PIPE
    program = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_at_once(number: signal.Signals, code: int) -> None:
    with start("print('ready', flush=True)\ntime.sleep(60)") as program:
        program.send_signal(number)
        assert program.communicate(timeout=30) == ("", "")
    assert program.returncode == code


def test_a_deferred_signal_stops_at_the_check() -> None:
    with start(
        "with SIGNALS.deferring():\n"
        "    print('ready', flush=True)\n"
        "    while SIGNALS.received is None:\n"
        "        time.sleep(0.01)\n"
        "    time.sleep(1)\n"
        "    print('saved', flush=True)\n"
        "SIGNALS.check()\n"
        "print('not reached')\n"
    ) as program:
        program.send_signal(signal.SIGTERM)
        assert program.communicate(timeout=30) == ("saved\n", "")
    assert program.returncode == 143


def test_a_second_interrupt_does_not_wait() -> None:
    with start("SIGNALS.deferred = True\nprint('ready', flush=True)\ntime.sleep(60)") as program:
        # A SIGTERM between them is the same stop, passed on by the parent.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            time.sleep(0.3)
            assert program.poll() is None
            program.send_signal(number)
        program.communicate(timeout=30)
    assert program.returncode == 130


def test_a_program_that_does_not_end_is_killed_with_its_children() -> None:
    with start(
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time\\n'\n"
        "    'signal.signal(signal.SIGTERM, lambda *_: print(\"passed on\", flush=True))\\n'\n"
        "    'print(\"ready\", flush=True)\\nwhile True: time.sleep(1)'])\n"
        "SIGNALS.children = lambda: [child]\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    except Stopped:\n"
        "        pass\n"
    ) as program:
        program.send_signal(signal.SIGTERM)
        # The end of the output says that the child has ended too.
        said, errors = program.communicate(timeout=30)
    assert (said, program.returncode) == ("passed on\n", 143)
    assert errors == "killed 0 s after SIGTERM, because it had not ended\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the signal is sent on Linux only")
def test_a_program_ends_with_its_parent() -> None:
    child = "import os, sys, time\\nfrom voslab.core.signals import end_with_parent\\n"
    child += "assert end_with_parent()\\nprint(\\'ready\\', flush=True)\\ntime.sleep(60)"
    with start(
        f"assert not end_with_parent()\nchild = subprocess.Popen([sys.executable, '-c', '{child}'])\nchild.wait()\n"
    ) as program:
        os.kill(program.pid, signal.SIGKILL)
        # The end of the output says that the child has ended too.
        program.communicate(timeout=30)
    assert program.returncode == -signal.SIGKILL
