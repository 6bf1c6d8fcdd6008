"""Whether our thread had to wait for the interpreter lock after a sleep, or was merely woken late.

Both look the same on the clock. The kernel counts voluntary context switches: a sleep is one, a wait for the lock adds at least
one more. Reading the count is a system call, so it is read only when a sample is late or something else may have switched.
"""

try:
    import resource
except ImportError:
    resource = None

CERTAIN_NS = 1000000


class Waits:
    """Counts sleeps against voluntary context switches.

    Attributes:
        disturbed: Something other than a sleep may have switched since the last reading (system calls release the lock).
    """

    def __init__(self):
        self.disturbed = True
        self._sleeps = 0
        self._switches = 0

    def before_sleep(self):
        """Call right before every sleep."""
        if self.disturbed:
            self._switches, self._sleeps, self.disturbed = self._read(), 0, False
        self._sleeps += 1

    def waited(self, late_ns):
        """How often our thread went to sleep for the lock after the sleep that has just ended; 0: it did not have to wait."""
        switches = self._read()
        if switches < 0:
            return int(late_ns > CERTAIN_NS)
        extra = switches - self._switches - self._sleeps
        self._switches, self._sleeps = switches, 0
        return max(extra, 0)

    @staticmethod
    def _read():
        try:
            return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        except (AttributeError, OSError, ValueError):
            return -1
