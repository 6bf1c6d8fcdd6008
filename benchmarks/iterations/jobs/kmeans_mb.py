# ruff: noqa
import time
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import IncrementalPCA
import truth

rng = np.random.default_rng(0)
texts = []
for i in range(300):
    texts.append(" ".join(sorted(str(v) for v in rng.integers(0, 1000, 400))))
import sys

SCALE = int(sys.argv[1]) if len(sys.argv) > 1 else 1
km = MiniBatchKMeans(20, batch_size=500)


def batches(n):
    for _ in range(n):
        yield rng.standard_normal((1000 * SCALE, 100))


t0 = time.time_ns()
for data in batches(120):
    km.partial_fit(data)
    truth.done(t0)
    t0 = time.time_ns()
