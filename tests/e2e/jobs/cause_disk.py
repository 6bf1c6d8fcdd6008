"""Every step waits for the disk: reads past the page cache (``--mode read``) or a durable log (``--mode fsync``)."""

import argparse
import json
import mmap
import os
import tempfile
import time

import numpy as np

BLOCK = 1 << 20


class DirectFile:
    """A data set that is read past the page cache."""

    def __init__(self, path, blocks, rng):
        with open(path, "wb") as f:
            for _ in range(blocks):
                f.write(rng.bytes(BLOCK))
            f.flush()
            os.fsync(f.fileno())
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self.buffer = mmap.mmap(-1, BLOCK)
        self.blocks = blocks

    def read(self, number):
        os.lseek(self.fd, (number % self.blocks) * BLOCK, os.SEEK_SET)
        os.readv(self.fd, [self.buffer])
        return np.frombuffer(self.buffer, dtype=np.uint8, count=128 * 1024).reshape(128, 1024)


class DurableLog:
    """Writes every step's gradient to disk before going on."""

    def __init__(self, path):
        self.file = open(path, "wb")

    def append(self, gradient, count):
        for _ in range(count):
            self.file.write(gradient.tobytes())
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.seek(0)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=250)
    ap.add_argument("--mode", choices=("read", "fsync"), default="read")
    ap.add_argument("--count", type=int, default=16, help="blocks read or syncs per step")
    ap.add_argument("--folder", help="where the file lies (default: the temporary folder)")
    ap.add_argument("--seed", type=int, default=5)
    ap.add_argument("--truth")
    a = ap.parse_args()
    rng = np.random.default_rng(a.seed)
    w = rng.normal(size=(1024, 64)) * 0.05
    times, waited = [], 0
    with tempfile.TemporaryDirectory(dir=a.folder) as folder:
        data = DirectFile(os.path.join(folder, "data"), 48 if a.mode == "read" else 1, rng)
        log = DurableLog(os.path.join(folder, "log"))
        batch = data.read(0) / 255.0
        start = last = time.time_ns()
        for step in range(a.steps):
            if a.mode == "read":
                before = time.time_ns()
                for block in range(a.count):
                    raw = data.read(step * a.count + block)
                waited += time.time_ns() - before
                batch = raw / 255.0
            h = np.tanh(batch @ w)
            gradient = batch.T @ (h * (1 - h * h)) / len(batch)
            w -= 0.1 * gradient
            if a.mode == "fsync":
                before = time.time_ns()
                log.append(gradient, a.count)
                waited += time.time_ns() - before
            now = time.time_ns()
            times.append(("train", last, now))
            last = now
    loss = float((h * h).mean())
    print("final loss", repr(loss))
    if a.truth:
        with open(a.truth, "w") as f:
            steps = [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times]
            share = waited / (last - start)
            json.dump({"steps": steps, "final_loss": loss, "cause": "disk-bound", "share": share}, f)


if __name__ == "__main__":
    main()
