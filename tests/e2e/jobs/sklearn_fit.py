"""One call of MLPClassifier.fit: the loops are the library's own.

The truth is taken in methods that scikit-learn calls itself, once per epoch and once per mini-batch.
"""

import argparse
import json
import time

from sklearn.datasets import make_classification
from sklearn.neural_network import MLPClassifier


class Timed(MLPClassifier):
    batch_starts = []
    epoch_ends = []

    def _backprop(self, *args, **kwargs):
        self.batch_starts.append(time.time_ns())
        return super()._backprop(*args, **kwargs)

    def _update_no_improvement_count(self, *args, **kwargs):
        self.epoch_ends.append(time.time_ns())
        return super()._update_no_improvement_count(*args, **kwargs)


ap = argparse.ArgumentParser()
ap.add_argument("--steps", type=int, default=50, help="epochs")
ap.add_argument("--seed", type=int, default=3)
ap.add_argument("--truth")
a = ap.parse_args()
x, y = make_classification(4000, 60, n_informative=20, n_classes=5, random_state=a.seed)
model = Timed((512, 256), batch_size=200, max_iter=a.steps, n_iter_no_change=a.steps, tol=0.0, verbose=True, random_state=a.seed)
model.fit(x, y)
print("final loss", repr(float(model.loss_)))
if a.truth:
    starts, epochs = model.batch_starts, model.epoch_ends
    steps = [{"kind": "train", "start_ns": s, "end_ns": e} for s, e in zip(starts, starts[1:] + epochs[-1:])]
    rounds = [{"kind": "train", "start_ns": s, "end_ns": e} for s, e in zip(starts[:1] + epochs, epochs)]
    with open(a.truth, "w") as f:
        json.dump({"steps": steps, "epochs": rounds, "final_loss": float(model.loss_)}, f)
