"""Far more compute threads than CPUs: ``--threads`` that each take a part of the batch, or ``--processes`` with a BLAS pool each.

One BLAS pool alone would not do: OpenBLAS never starts more threads than there are CPUs.
"""

import argparse
import json
import os
import time

ap = argparse.ArgumentParser()
ap.add_argument("--steps", type=int, default=200)
ap.add_argument("--threads", type=int, default=16)
ap.add_argument("--processes", type=int, default=0, help="further processes that compute with a pool each")
ap.add_argument("--size", type=int, default=640)
ap.add_argument("--seed", type=int, default=5)
ap.add_argument("--truth")
a = ap.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(a.threads if a.processes else 1)

import multiprocessing as mp  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402

import numpy as np  # noqa: E402


def features(queue, seed, steps, size):
    """Compute features of random images for the trainer."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(size, size))
    for _ in range(steps):
        queue.put(np.tanh(base @ rng.normal(size=(size, size)))[:, :64].copy())


def main():
    rng = np.random.default_rng(a.seed)
    queues = [mp.Queue(2) for _ in range(a.processes)]
    helpers = [mp.Process(target=features, args=(q, a.seed + n, a.steps, a.size), daemon=True) for n, q in enumerate(queues)]
    for helper in helpers:
        helper.start()
    w = rng.normal(size=(a.size, a.size)) / a.size**0.5
    pool = ThreadPoolExecutor(a.threads)
    each = a.size if a.processes else max(a.size // 4, 8)

    def gradient(seed):
        """Of one part of the batch; the heavy calls release the interpreter lock."""
        part = np.random.default_rng(seed).normal(size=(each, a.size))
        h = np.tanh(part @ w)
        return part.T @ (h - part) / each, h, part

    times = []
    last = time.time_ns()
    for step in range(a.steps):
        if a.processes:
            x = rng.normal(size=(a.size, a.size))
            for q in queues:
                x[:, :64] += q.get()
            for _ in range(2):
                h = np.tanh(x @ w)
                w -= 1e-4 * (x.T @ (h - x)) / a.size
        else:
            parts = list(pool.map(gradient, range(step * a.threads, (step + 1) * a.threads)))
            w -= 1e-4 * sum(part[0] for part in parts) / a.threads
            h, x = parts[0][1:]
        now = time.time_ns()
        times.append(("train", last, now))
        last = now
        if step % 50 == 0:
            print(step, float(abs(h).mean()), flush=True)
    loss = float(((h - x) ** 2).mean())
    print("final loss", repr(loss))
    if a.truth:
        with open(a.truth, "w") as f:
            steps = [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times]
            json.dump({"steps": steps, "final_loss": loss, "cause": "thread-oversubscription"}, f)


if __name__ == "__main__":
    main()
