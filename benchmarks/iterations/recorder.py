"""Throw-away recorder: runs a script and writes what the probe would send (samples, loop jumps, torch hooks) to a JSON file.

Standard library only, so that it runs in any trainer's environment. Development data for the detector comes from here: it is
independent of the probe on purpose, so that a shared mistake cannot hide.

    python recorder.py OUT.json.gz HZ HOOKS(0|1) script.py ARG…
"""

import atexit
import gzip
import json
import os
import random
import runpy
import sys
import threading
import time

OUT, HZ, HOOKS = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "1"
SYMBOLS, SYMBOL_IDS = [["", "", 0, "", 0]], {}
PATHS, PATH_IDS = [[0, 0]], {}
ROWS = []  # start, duration, kind, subkind, name, path, tid
PID = os.getpid()
BASE = time.time_ns() - time.monotonic_ns()
STOP = threading.Event()
LOCK = threading.Lock()
WAITS = {230: 7, 35: 7, 202: 2, 0: 4, 17: 4, 45: 5, 43: 5, 288: 5, 7: 6, 23: 6, 270: 6, 271: 6, 232: 6, 281: 6, 61: 8, 247: 8}


def symbol(code, module, offset, line):
    key = (code, offset)
    found = SYMBOL_IDS.get(key)
    if found is None:
        name = getattr(code, "co_qualname", code.co_name)
        with LOCK:
            found = SYMBOL_IDS[key] = len(SYMBOLS)
            SYMBOLS.append([name, module, offset, code.co_filename, line or 0])
    return found


def named(function, module):
    key = (function, module)
    if key not in SYMBOL_IDS:
        with LOCK:
            SYMBOL_IDS[key] = len(SYMBOLS)
            SYMBOLS.append([function, module, 0, "", 0])
    return SYMBOL_IDS[key]


def path(parent, sym):
    key = (parent, sym)
    if key not in PATH_IDS:
        PATH_IDS[key] = len(PATHS)
        PATHS.append([parent, sym])
    return PATH_IDS[key]


def waiting(tid):
    """Subkind of a sample (kinds.Wait): what the thread is doing, from its system call."""
    try:
        with open(f"/proc/self/task/{tid}/syscall") as source:
            first = source.read().split()[0]
    except OSError:
        return 0
    return 1 if first == "running" else WAITS.get(int(first), 9)


def sample_loop():
    mine = threading.get_ident()
    last = {}
    due = time.monotonic_ns()
    while not STOP.is_set():
        due += int(1e9 / HZ * (0.75 + 0.5 * random.random()))
        now = time.monotonic_ns()
        if due > now:
            time.sleep((due - now) / 1e9)
        else:
            due = now
        now = time.monotonic_ns()
        natives = {t.ident: t.native_id for t in list(threading._active.values())}
        for ident, frame in sys._current_frames().items():
            if ident == mine:
                continue
            tid = natives.get(ident, 1)
            chain = []
            while frame is not None:
                chain.append((frame.f_code, frame.f_globals.get("__name__", "?"), frame.f_lasti, frame.f_lineno))
                frame = frame.f_back
            while chain and chain[-1][0].co_filename.endswith(("recorder.py", "<frozen runpy>")):
                chain.pop()
            p = s = 0
            for item in reversed(chain):
                s = symbol(*item)
                p = path(p, s)
            ROWS.append((BASE + now, now - last.get(tid, now), 2, waiting(tid), s, p, tid))
            last[tid] = now
        chain = frame = None


def on_jump(code, source, target):
    if target > source:
        return sys.monitoring.DISABLE
    key = (code, target, source)
    seen = COUNTS[key] = COUNTS.get(key, 0) + 1
    if seen > 5000 or code.co_filename.endswith("recorder.py"):
        return sys.monitoring.DISABLE
    if threading.get_native_id() != PID:
        return None
    known = HEADS.get((code, target))
    if known is None:
        line = next((ln for start, end, ln in code.co_lines() if start <= target < end), 0)
        known = HEADS[code, target] = symbol(code, sys._getframe(1).f_globals.get("__name__", "?"), target, line)
    ROWS.append((time.time_ns(), 0, 3, 2, known, 0, PID))
    return None


COUNTS, HEADS = {}, {}


def hook_torch():
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
    from torch.utils.data import dataloader

    begun = {}

    def row(name, t0):
        ROWS.append((t0, time.time_ns() - t0, 3, 3, named(name, "torch"), 0, threading.get_native_id()))

    register_optimizer_step_pre_hook(lambda o, a, k: begun.__setitem__(id(o), time.time_ns()))
    register_optimizer_step_post_hook(lambda o, a, k: row("optimizer.step", begun.pop(id(o), time.time_ns())))
    original = dataloader._BaseDataLoaderIter.__next__

    def wrapped(self):
        t0 = time.time_ns()
        try:
            return original(self)
        finally:
            row("dataloader.next", t0)

    dataloader._BaseDataLoaderIter.__next__ = wrapped
    import torch

    backward = torch.Tensor.backward

    def wrapped_backward(self, *a, **k):
        t0 = time.time_ns()
        try:
            return backward(self, *a, **k)
        finally:
            row("autograd.backward", t0)

    torch.Tensor.backward = wrapped_backward


def save():
    STOP.set()
    if os.getpid() != PID:
        return
    if hasattr(sys, "monitoring"):
        sys.monitoring.set_events(4, 0)
    with gzip.open(OUT, "wt", compresslevel=4) as out:
        json.dump({"pid": PID, "hz": HZ, "symbols": SYMBOLS, "paths": PATHS, "rows": ROWS}, out)


if __name__ == "__main__":
    sys.argv = sys.argv[4:]
    if HOOKS:
        hook_torch()
    if HZ > 0:
        threading.Thread(target=sample_loop, daemon=True).start()
    if hasattr(sys, "monitoring") and os.environ.get("NOLOOPS") != "1":
        sys.monitoring.use_tool_id(4, "recorder")
        sys.monitoring.register_callback(4, sys.monitoring.events.JUMP, on_jump)
        sys.monitoring.set_events(4, sys.monitoring.events.JUMP)
    atexit.register(save)
    os.register_at_fork(after_in_child=STOP.set)
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")
