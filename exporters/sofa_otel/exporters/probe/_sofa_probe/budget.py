"""The probe's own governor: sampling rate against what sampling costs the program.

Cost is the CPU time of our thread plus what a forced hand-over of the interpreter lock costs the thread that had it. A sample
of new code costs ten times one of known code (imports, the first steps), so the period follows the recent cost of a sample
directly: the rate falls at once where samples are dear and is back within a second where they are cheap.
"""

HANDOVER_NS = 20000
"""Two context switches for the thread that had to give the lock up: an assumption. On a shared two-core virtual machine it came
out anywhere between 0 and 500 µs (benchmarks/probe_cost.py): the bar that counts is the step time (benchmarks/step_cost.py)."""
LEARNING = 4.0
"""So much larger is the budget while the reader asks for more than the default rate: then nothing but samples tells the loop."""
SLOWEST_HZ = 10.0
MEMORY = 0.5


class Budget:
    """Chooses the sampling period.

    Attributes:
        period: Nanoseconds between samples now.
        wanted: Samples per second asked for.
        spent: Share of one CPU that the last interval cost.
    """

    def __init__(self, share, rate):
        self.share = share
        self.wanted = self.usual = max(rate, 1.0)
        self.period = int(1e9 / self.wanted)
        self.spent = 0.0
        self._cost = 0.0
        self._before = None

    def ask(self, rate, highest):
        """Take a new wanted rate (0: leave it)."""
        if rate > 0:
            self.wanted = min(max(rate, 1.0), highest)
            self.period = int(1e9 / self.wanted)
            # A wake-up from a long sleep costs three times one from a short: the cost at the new rate is not known yet.
            self._cost, self._before = 0.0, None

    def settle(self, cpu, wall, handovers, samples):
        """Adjust after an interval. ``cpu`` and ``wall`` are clock readings in ns, the others running totals."""
        now = (cpu, wall, handovers, samples)
        before, self._before = self._before, now
        if before is None or now[3] == before[3] or now[1] <= before[1]:
            return
        used = now[0] - before[0] + (now[2] - before[2]) * HANDOVER_NS
        self.spent = used / (now[1] - before[1])
        cost = used / (now[3] - before[3])
        self._cost = cost if not self._cost else MEMORY * self._cost + (1 - MEMORY) * cost
        fastest = 1e9 / self.wanted
        share = self.share * (LEARNING if self.wanted > self.usual else 1.0)
        self.period = int(max(fastest, min(self._cost / share, max(fastest, 1e9 / SLOWEST_HZ))))
