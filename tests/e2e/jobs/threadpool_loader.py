"""A ThreadPoolExecutor prefetches compressed shards; the main thread trains on them."""

import argparse
import collections
import concurrent.futures
import json
import os
import tempfile
import time
import zlib

import numpy as np


def write_shards(folder, count, rng, truth_weights):
    paths = []
    for n in range(count):
        x = rng.normal(size=(256, 300)).astype(np.float32)
        y = x @ truth_weights + 0.1 * rng.normal(size=(256, 1))
        path = os.path.join(folder, "shard-%03d.z" % n)
        with open(path, "wb") as f:
            f.write(zlib.compress(np.concatenate([x, y.astype(np.float32)], axis=1).tobytes(), 1))
        paths.append(path)
    return paths


def read_shard(path):
    with open(path, "rb") as f:
        data = np.frombuffer(zlib.decompress(f.read()), dtype=np.float32).reshape(256, 301)
    x = data[:, :300].astype(np.float64)
    x = (x - x.mean(0)) / x.std(0)
    return x, data[:, 300:].astype(np.float64)


def prefetch(pool, paths, depth):
    waiting = collections.deque()
    for path in paths:
        waiting.append(pool.submit(read_shard, path))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def step(weights, moments, x, y, n):
    w1, w2 = weights
    h = np.maximum(x @ w1, 0)
    error = h @ w2 - y
    g2 = h.T @ error / len(y)
    g1 = x.T @ ((error @ w2.T) * (h > 0)) / len(y)
    for w, g, (m, v) in zip(weights, (g1, g2), moments):
        m += 0.1 * (g - m)
        v += 0.01 * (g * g - v)
        w -= 0.003 * (m / (1 - 0.9**n)) / (np.sqrt(v / (1 - 0.99**n)) + 1e-8)
    return float((error**2).mean())


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=320)
    ap.add_argument("--threads", type=int, default=3)
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--truth")
    a = ap.parse_args()
    rng = np.random.default_rng(a.seed)
    weights = [rng.normal(size=(300, 1000)) / 17, rng.normal(size=(1000, 1)) / 20]
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    times = []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(a.threads) as pool:
        paths = write_shards(folder, 32, rng, rng.normal(size=(300, 1)))
        wanted = [paths[i % len(paths)] for i in range(a.steps)]
        last = time.time_ns()
        for n, (x, y) in enumerate(prefetch(pool, wanted, 4), 1):
            loss = step(weights, moments, x, y, n)
            now = time.time_ns()
            times.append(("train", last, now))
            last = now
            if n % 40 == 0:
                print(n, loss, flush=True)
    print("final loss", repr(loss))
    if a.truth:
        with open(a.truth, "w") as f:
            json.dump({"steps": [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times], "final_loss": loss}, f)


if __name__ == "__main__":
    main()
