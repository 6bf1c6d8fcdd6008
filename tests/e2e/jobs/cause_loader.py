"""The trainer waits for one slow loader process (``--work cpu``: decoding; ``--work wait``: a slow store)."""

import argparse
import json
import time
import zlib
from multiprocessing import Pipe, Process

import numpy as np


def load(pipe, steps, seed, work, load_ms):
    rng = np.random.default_rng(seed)
    packed = zlib.compress(rng.integers(0, 8, size=120_000, dtype=np.uint8).tobytes(), 6)
    for _ in range(steps):
        if work == "cpu":
            until = time.perf_counter() + load_ms / 1000.0
            while time.perf_counter() < until:
                zlib.decompress(packed)
        else:
            time.sleep(load_ms / 1000.0)
        pipe.send(rng.normal(size=(200, 128)))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=200)
    ap.add_argument("--work", choices=("cpu", "wait"), default="cpu")
    ap.add_argument("--load-ms", type=float, default=50.0)
    ap.add_argument("--seed", type=int, default=5)
    ap.add_argument("--truth")
    a = ap.parse_args()
    receive, send = Pipe(duplex=False)
    loader = Process(target=load, args=(send, a.steps, a.seed, a.work, a.load_ms), daemon=True)
    loader.start()
    rng = np.random.default_rng(a.seed)
    w1, w2 = rng.normal(size=(128, 400)) * 0.1, rng.normal(size=(400, 128)) * 0.1
    times, waited = [], 0
    start = last = time.time_ns()
    for step in range(a.steps):
        x = receive.recv()
        waited += time.time_ns() - last
        h = np.tanh(x @ w1)
        error = h @ w2 - x
        w1 -= 1e-3 * x.T @ ((error @ w2.T) * (1 - h * h)) / len(x)
        w2 -= 1e-3 * h.T @ error / len(x)
        loss = float((error**2).mean())
        now = time.time_ns()
        times.append(("train", last, now))
        last = now
        if step % 50 == 0:
            print(step, loss, flush=True)
    loader.join()
    print("final loss", repr(loss))
    if a.truth:
        with open(a.truth, "w") as f:
            steps = [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times]
            share = waited / (last - start)
            json.dump({"steps": steps, "final_loss": loss, "cause": "loader-bound", "share": share}, f)


if __name__ == "__main__":
    main()
