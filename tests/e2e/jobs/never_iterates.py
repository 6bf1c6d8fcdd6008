"""A preparation script: different work one piece after the other, nothing that repeats as a training loop does."""

import argparse
import hashlib
import json
import os
import re
import sqlite3
import tempfile
import time
import zlib

import numpy as np


def inverse(rng, size):
    return float(np.linalg.inv(rng.normal(size=(size, size)) + size * np.eye(size)).sum())


def words(folder):
    counts = {}
    for name in sorted(os.listdir(folder))[:60]:
        if name.endswith(".py"):
            with open(os.path.join(folder, name), encoding="utf-8", errors="ignore") as f:
                for word in re.findall(r"[a-z_]{3,}", f.read().lower()):
                    counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def store(counts):
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(os.path.join(folder, "words.sqlite"))
        db.execute("create table words (word text, n int)")
        db.executemany("insert into words values (?, ?)", counts)
        db.commit()
        total = db.execute("select sum(n) from words").fetchone()[0]
        db.close()
    return total


def primes(limit):
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for i in range(2, int(limit**0.5) + 1):
        if sieve[i]:
            sieve[i * i :: i] = bytes(len(range(i * i, limit, i)))
    return sum(sieve)


ap = argparse.ArgumentParser()
ap.add_argument("--seed", type=int, default=3)
ap.add_argument("--scale", type=float, default=1.0)
ap.add_argument("--truth")
a = ap.parse_args()
rng = np.random.default_rng(a.seed)
out = [inverse(rng, int(1300 * a.scale))]
counts = words(os.path.dirname(os.__file__))
out.append(store(counts))
time.sleep(0.8 * a.scale)
out.append(primes(int(9_000_000 * a.scale)))
out.append(float(np.linalg.svd(rng.normal(size=(int(600 * a.scale), 500)), compute_uv=False)[0]))
out.append(hashlib.sha256(zlib.compress(rng.bytes(int(9_000_000 * a.scale)), 6)).hexdigest())
out.append(float(np.sort(rng.normal(size=int(6_000_000 * a.scale)))[1000]))
time.sleep(0.3 * a.scale)
print("result", json.dumps(out))
if a.truth:
    with open(a.truth, "w") as f:
        json.dump({"steps": [], "final_loss": out[0]}, f)
