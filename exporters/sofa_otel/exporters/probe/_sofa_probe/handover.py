"""How fast a thread that runs Python hands the interpreter lock to the sampler.

By default a waiting thread asks for the lock after 5 ms; within that time most programs give it up by themselves, at a blocking
call, so samples would pile up at those calls and never show the Python code before them. While the program has only one thread
that runs Python, nobody but our thread ever waits for the lock, and the interval can be short without changing anything for the
program. As soon as two of its threads run, the program's own value is back. So it is while native code keeps the lock for long
(imports do): every interval that passes in vain is a wake-up of our thread.
"""

import sys

SHORT_S = 0.0003
VAIN_WAITS = 8
CALM_NS = 2000000000
CALM_VAIN_NS = 500000000


class Handover:
    """Sets and restores the interpreter's switch interval."""

    def __init__(self):
        self._saved = None
        self._ours = None
        self._not_before = 0

    def notice(self, running, waits, now):
        """``running`` threads of the program ran since the last sample, which took ``waits`` sleeps to get the lock."""
        if running > 1:
            self._not_before = now + CALM_NS
            self.restore()
        elif waits > VAIN_WAITS and self._saved is not None:
            self._not_before = now + CALM_VAIN_NS
            self.restore()

    def shorten(self, now):
        """Called now and then while samples have to wait for the lock."""
        if self._saved is None and now > self._not_before:
            saved = sys.getswitchinterval()
            if saved > SHORT_S:
                sys.setswitchinterval(SHORT_S)
                self._saved, self._ours = saved, sys.getswitchinterval()

    def restore(self):
        """The program's own value again, unless it has set another one meanwhile."""
        if self._saved is not None:
            if sys.getswitchinterval() == self._ours:
                sys.setswitchinterval(self._saved)
            self._saved = None
