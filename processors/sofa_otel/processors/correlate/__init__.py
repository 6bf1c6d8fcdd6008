"""Which swarm moves which resource, with a gate that autocorrelated noise does not pass.

Two series that merely drift, oscillate or remember their past correlate at lag 0 all the time. An edge is reported only where two
tests that fail differently agree.
"""

from __future__ import annotations

from sofa_otel.processors.correlate.finder import correlate

__all__ = ["correlate"]
