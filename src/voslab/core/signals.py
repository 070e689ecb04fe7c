"""Stops a program on SIGTERM or Ctrl-C: at once, or at its next save point."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

_PARENT = "VOSLAB_PARENT"
_PR_SET_PDEATHSIG = 1


class Stopped(SystemExit):
    """Raised in the main thread when a signal ends the program; the exit code is 128 + signal."""

    def __init__(self, number: int, code: int | None = None) -> None:
        super().__init__(128 + number if code is None else code)
        self.signal = signal.Signals(number)


class SignalHandler:
    """Raises `Stopped` in the main thread after a signal: at once, or where a program that defers it calls `check`.

    A thread passes the signal on to the child processes, even while the main thread is blocked in C code, for example
    in a collective operation. It also ends the program that has not ended `deadline` seconds after the signal, or after
    the save point if stopping was deferred.

    The first signal counts. Others are ignored, because the same stop may arrive several times: from the terminal and
    from the parent process. Only a second Ctrl-C raises `Stopped` again, and does not wait for a save point.

    Attributes:
        received: the signal; None if there was none.
        deferred: whether the program stops at its next save point only.
        detail: what the message about the stop says after the name of the signal.
        children: returns the processes that a signal is passed on to.
        launched: whether this process was launched by another one, which tells the user and returns the exit code.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._wakeup = (-1, -1)
        self._deadline: float | None = None
        self._reset()
        os.register_at_fork(after_in_child=self._after_fork)

    def _reset(self) -> None:
        self.received: signal.Signals | None = None
        self.deferred = False
        self.detail = ""
        self.children: Callable[[], Sequence[subprocess.Popen[Any]]] = tuple
        self.launched = False
        self._timer: threading.Timer | None = None

    @property
    def installed(self) -> bool:
        """Whether the handlers are installed."""
        return bool(self._handlers)

    def install(self, deadline: float | None = None) -> None:
        """Install the handlers. Python allows this in the main thread only; elsewhere nothing happens.

        Args:
            deadline: seconds after which a stopping program is killed; None: never.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._reset()
        self._deadline = deadline
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._wakeup = (writer, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
        threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True).start()
        self.add(signal.SIGTERM)
        self.add(signal.SIGINT)

    def add(self, number: int) -> None:
        """Install the handler for another signal, if it is installed for others.

        Args:
            number: the signal.
        """
        if self._wakeup[0] >= 0 and number not in self._handlers:
            self._handlers[number] = signal.signal(number, self._handle)

    def uninstall(self) -> None:
        """Restore the handlers from before. A deadline that has begun stays."""
        if not self.installed:
            return
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        writer, before = self._wakeup
        self._wakeup = (-1, -1)
        signal.set_wakeup_fd(before)
        os.close(writer)

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Do not stop before the end of the block."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False

    def check(self) -> None:
        """Stop at once from now on.

        Raises:
            Stopped: if a signal was received.
        """
        self.deferred = False
        if self.received is not None:
            self.stop()

    def stop(self) -> NoReturn:
        """Stop the program after a signal that another process may have received.

        Raises:
            Stopped: always.
        """
        number = self.received or signal.SIGTERM
        self._begin_deadline(number)
        raise Stopped(number, self.exit_code(128 + number))

    def exit_code(self, code: int) -> int:
        """Return the exit code of a process that stops together with the others: 0 if another one launched it.

        Lightning takes any other code of a process that it launched for a crash, and kills the other processes.

        Args:
            code: exit code of the program.
        """
        return 0 if self.launched else code

    def exit(self, stopped: Stopped) -> NoReturn:
        """End the process like the interpreter, but without its teardown, in which libraries may block.

        Args:
            stopped: exception that ended the program.
        """
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(int(stopped.code or 0))

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT == self.received:
            self.deferred = False
        else:
            return
        if not self.deferred:
            self.stop()

    def _watch(self, reader: int) -> None:
        passed_on = False
        while numbers := os.read(reader, 64):
            handled = [number for number in numbers if number in self._handlers]
            if not handled:
                continue
            if not passed_on:
                passed_on = True
                for child in self.children():
                    with suppress(OSError):
                        child.send_signal(signal.SIGTERM)
            if not self.deferred:
                self._begin_deadline(handled[0])
        os.close(reader)

    def _begin_deadline(self, number: int) -> None:
        if self._deadline is not None and self._timer is None:
            self._timer = threading.Timer(self._deadline, self._kill, (number,))
            self._timer.daemon = True
            self._timer.start()

    def _kill(self, number: int) -> None:
        started = [child.kill for child in self.children()]
        for kill in (*started, *(worker.kill for worker in multiprocessing.active_children())):
            with suppress(OSError):
                kill()
        message = f"killed {self._deadline:.0f} s after {signal.Signals(number).name}, because it had not ended\n"
        os.write(2, message.encode())
        os._exit(self.exit_code(128 + number))

    def _after_fork(self) -> None:
        """Leave signals of a forked process to that process."""
        if self.installed:
            signal.set_wakeup_fd(-1)
            self._reset()
            self._deadline = None


SIGNALS = SignalHandler()
"""The handler of this process."""


def end_with_parent() -> bool:
    """Get a SIGTERM when the parent dies, if the parent is one of our programs: a sweep, or process 0 of a training.

    Programs that this one starts can do the same. The signal is sent on Linux only.

    Returns:
        Whether the parent is one of our programs.
    """
    parent, os.environ[_PARENT] = os.environ.get(_PARENT), str(os.getpid())
    if parent is None:
        return False
    started_by = parent == str(os.getppid())
    if started_by and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have died before the call.
    if not _exists(int(parent)):
        raise Stopped(signal.SIGTERM)
    return started_by


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
