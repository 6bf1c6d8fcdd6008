# ruff: noqa
import time, warnings
import numpy as np
from sklearn.neural_network import MLPClassifier, _multilayer_perceptron as m
import truth

warnings.filterwarnings("ignore")
rng = np.random.default_rng(0)
import sys

SCALE = int(sys.argv[1]) if len(sys.argv) > 1 else 1
x = rng.standard_normal((3000 * SCALE, 200))
y = (x[:, :10].sum(1) > 0).astype(int)
# the truth is taken by wrapping the optimiser: one update is one step
import sklearn.neural_network._stochastic_optimizers as so

last = [0]
for cls in (so.AdamOptimizer,):
    orig = cls._get_updates

    def wrap(self, grads, orig=orig):
        out = orig(self, grads)
        if last[0]:
            truth.done(last[0])
        last[0] = time.time_ns()
        return out

    cls._get_updates = wrap
clf = MLPClassifier((256, 128), max_iter=12, batch_size=150 * SCALE)
clf.fit(x, y)
print(clf.score(x, y))
