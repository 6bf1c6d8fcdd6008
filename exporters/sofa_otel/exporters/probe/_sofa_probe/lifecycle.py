"""When the probe runs: armed at start-up, asleep for half a second, out of the way of every fork, gone before the exit.

The probe's thread is a ``_thread`` one: ``threading`` neither lists nor counts it. No thread of ours may be alive when the
program forks (from 3.12 on that is a warning, an error under ``-W error``), so a fork stops and joins it first. In the parent
it starts again at the next Python call, not inside the after-fork hook, since some versions look for threads only after that
hook.
"""

import _thread
import atexit
import os
import sys
import time

from _sofa_probe import agenda

START_DELAY_S = 0.15
EXIT_JOIN_S = 0.05
FORK_JOIN_S = 0.5


class Lifecycle:
    """Owns the probe's only thread in this process."""

    def __init__(self, path):
        self.path = path
        self.pid = os.getpid()
        self.main = _thread.get_ident()
        self.born_ns = time.time_ns()
        self.agenda = None
        self._wake = _thread.allocate_lock()
        self._wake.acquire()
        self._gone = None
        self._tid = 0

    def launch(self):
        """Start the thread."""
        if self._gone is not None:
            return
        self._gone = _thread.allocate_lock()
        self._gone.acquire()
        try:
            _thread.start_new_thread(self._run, (self._gone,))
        except RuntimeError:
            self._gone = None

    def _run(self, gone):
        try:
            self._tid = _thread.get_native_id()
            _block_signals()
            if self.agenda is None:
                if self._wake.acquire(True, START_DELAY_S):
                    return
                self.agenda = agenda.Agenda(self.path, self.main, self.pid, self.born_ns)
            self.agenda.run(self._wake)
        except BaseException as error:
            _report(error)
        finally:
            gone.release()

    def halt(self, seconds):
        """Stop the thread and wait for its end; False when it took too long."""
        if self._gone is None:
            return True
        gone, self._gone = self._gone, None
        if self.agenda is not None:
            self.agenda.stopping = True
        try:
            self._wake.release()
        except RuntimeError:
            pass
        ended = gone.acquire(True, seconds)
        self._wake.acquire(False)
        return ended and self._vanished(seconds)

    def _vanished(self, seconds):
        """The kernel's thread is gone too (the interpreter counts those)."""
        end = time.monotonic() + seconds
        path = "/proc/self/task/%d" % self._tid
        while self._tid and os.path.exists(path):
            if time.monotonic() > end:
                return False
            time.sleep(0.0001)
        return True

    def before_fork(self):
        """Nothing of ours runs during a fork."""
        self.halt(FORK_JOIN_S)

    def after_fork_in_parent(self):
        """Go on, at a moment when nobody counts threads."""
        if sys.version_info < (3, 12):
            self.launch()
        else:
            from _sofa_probe import fork_monitor

            fork_monitor.at_next_call(self.launch)

    def after_fork_in_child(self):
        """A new process: a probe of its own, from the start."""
        if self.agenda is not None:
            self.agenda.abandon()
        self.__init__(self.path)
        self.launch()

    def at_exit(self):
        """Say goodbye, within bounds."""
        if self.agenda is not None:
            self.agenda.leaving = True
        if not self.halt(EXIT_JOIN_S) and self.agenda is not None:
            self.agenda.close()


def _block_signals():
    """Leave every signal to the program's threads: one delivered to ours would not interrupt a blocked main thread."""
    import _signal

    mine = {_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGABRT}
    _signal.pthread_sigmask(_signal.SIG_BLOCK, [item for item in _signal.valid_signals() if item not in mine])


def _report(error):
    if os.environ.get("SOFA_PROBE_DEBUG") and not isinstance(error, SystemExit):
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__)


def arm():
    """Prepare the probe of this process."""
    life = Lifecycle(os.environ["SOFA_PROBE_SOCKET"])
    os.register_at_fork(
        before=life.before_fork, after_in_parent=life.after_fork_in_parent, after_in_child=life.after_fork_in_child
    )
    atexit.register(life.at_exit)
    life.launch()
