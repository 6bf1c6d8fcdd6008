"""The probe's own governor: sampling rate against what sampling costs the program.

Cost is the CPU time of our thread plus what a forced hand-over of the interpreter lock costs the thread that had it. The rate
falls as soon as the budget is exceeded and rises again slowly.
"""

HANDOVER_NS = 30000
"""Measured (benchmarks/probe_cost.py): two context switches and cold caches for the thread that had to give the lock up."""


class Budget:
    """Chooses the sampling period.

    Attributes:
        period: Nanoseconds between samples now.
        wanted: Samples per second asked for.
    """

    def __init__(self, share, rate):
        self.share = share
        self.wanted = rate
        self.period = int(1e9 / rate)
        self.spent = 0.0
        self._cpu = 0
        self._wall = 0

    def ask(self, rate, highest):
        """Take a new wanted rate (0: leave it)."""
        if rate > 0:
            self.wanted = min(max(rate, 1.0), highest)
            self.period = int(1e9 / self.wanted)

    def settle(self, cpu, wall, handovers):
        """Adjust after an interval; ``cpu`` and ``wall`` are clock readings in ns."""
        used, passed = cpu - self._cpu, wall - self._wall
        first = not self._wall
        self._cpu, self._wall = cpu, wall
        if first or passed <= 0:
            return
        self.spent = (used + handovers * HANDOVER_NS) / passed
        slowest, fastest = int(1e9), int(1e9 / self.wanted)
        if self.spent > self.share:
            self.period = min(int(self.period * min(max(self.spent / self.share, 1.1), 4.0)), slowest)
        elif self.period > fastest and self.spent < 0.7 * self.share:
            self.period = max(int(self.period * 0.85), fastest)
