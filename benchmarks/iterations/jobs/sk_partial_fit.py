# ruff: noqa
import time
import numpy as np
from sklearn.linear_model import SGDClassifier
import truth

rng = np.random.default_rng(0)


import sys

SCALE = int(sys.argv[1]) if len(sys.argv) > 1 else 1


def make(n=2000 * SCALE):
    x = rng.standard_normal((n, 200))
    return x, (x[:, :10].sum(1) > 0).astype(int)


def main():
    clf = SGDClassifier()
    for epoch in range(6):
        for b in range(25):
            t0 = time.time_ns()
            x, y = make()
            clf.partial_fit(x, y, classes=[0, 1])
            truth.done(t0)
        print(epoch, clf.score(*make(500)))


main()
