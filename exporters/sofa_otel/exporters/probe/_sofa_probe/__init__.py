"""SOFA's in-process probe: samples Python stacks and thread states, sees loops and library calls, and sends frames to the agent.

Standard library only, Python 3.8 and later. It lives inside somebody else's program, so it owns nothing visible there: one thread
below ``threading``, a few descriptors out of the way, bounded tables, and a socket that never blocks.
"""


def start():
    """Arm the probe in this process; sampling begins after a short delay. Called by ``sitecustomize`` only."""
    from _sofa_probe import lifecycle

    lifecycle.arm()
