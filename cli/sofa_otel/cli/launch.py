"""Launches the target behind a gate: it exists, and can be watched, before its first instruction.

The child is forked, waits at a pipe and then executes the command in its own place: same process group, terminal, files and
signals as if it had been started without us. It is never tied to our life: if we die, it goes on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Final

from sofa_otel.core.errors import UsageError

_FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)


class Launched:
    """A target that waits at its gate.

    Must be made while the process has one thread only.

    Args:
        command: Program and arguments, looked up on ``PATH``.
        environment: The target's whole environment.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        gate_read, self._gate = os.pipe()
        self._failure, failure_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(self._command, dict(environment), gate_read, self._gate, failure_write)
        os.close(gate_read)
        os.close(failure_write)

    def open_gate(self) -> None:
        """Let the target begin.

        Raises:
            UsageError: The command cannot be executed.
        """
        os.write(self._gate, b"g")
        os.close(self._gate)
        failure = b""
        while part := os.read(self._failure, 4096):
            failure += part
        os.close(self._failure)
        if failure:
            os.waitpid(self.pid, 0)
            raise UsageError(
                f"cannot run {self._command[0]!r}: {failure.decode(errors='replace')}",
                "name a program after --, as: sofa run -- python train.py",
            )

    def wait(self) -> int:
        """Wait for the target's end; its exit code, or 128 + signal."""
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code


def _become(command: list[str], environment: dict[str, str], gate: int, gate_write: int, failure: int) -> None:
    """The child's side; does not return."""
    try:
        os.close(gate_write)  # or our own copy would keep the gate from closing when the parent dies
        os.read(gate, 1)
        os.execvpe(command[0], command, environment)
    except OSError as error:
        os.write(failure, (error.strerror or str(error)).encode())
    finally:
        os._exit(127)


class SignalRelay:
    """Hands signals that reach only us on to the target, and keeps us alive to write the report.

    What the terminal sends (Ctrl-C) reaches the whole process group, the target included, and is not sent twice.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._old: dict[int, signal.Handlers | object] = {}
        self.active = True

    def __enter__(self) -> SignalRelay:
        for number in (*_FORWARDED, *_FROM_TERMINAL):
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.active or (number in _FROM_TERMINAL and _terminal_is_ours()):
            return
        try:
            os.kill(self._pid, number)
        except ProcessLookupError:
            pass


def _terminal_is_ours() -> bool:
    """Whether our process group is the terminal's foreground group, so that keys reach the target too."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
