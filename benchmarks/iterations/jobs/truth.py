# ruff: noqa
"""The scripts' own step times, kept aside and written at exit: ground truth for scoring, never read by the detector."""

import atexit
import json
import os
import time

STEPS = []


def done(start, kind="train"):
    STEPS.append((start, time.time_ns(), kind))


def save():
    if os.environ.get("TRUTH"):
        with open(os.environ["TRUTH"], "w") as out:
            json.dump(STEPS, out)


OWNER = os.getpid()
atexit.register(lambda: save() if os.getpid() == OWNER else None)
