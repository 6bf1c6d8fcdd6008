"""Out-of-core text classification: hash made-up documents, SGDClassifier.partial_fit, progressive validation each epoch."""

import argparse
import json
import random
import time

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

WORDS = [a + b + c for a in "bdfgklmnprstvz" for b in ("a", "e", "io", "u") for c in ("", "n", "rt", "ss")]


def documents(seed, count):
    r = random.Random(seed)
    for _ in range(count):
        topic = r.randrange(4)
        words = [WORDS[min(int(r.expovariate(1 / 40)) + 17 * topic, len(WORDS) - 1)] for _ in range(r.randint(60, 120))]
        yield " ".join(words), topic


def minibatches(seed, count, size):
    stream = documents(seed, count)
    while True:
        batch = [doc for _, doc in zip(range(size), stream)]
        if not batch:
            return
        texts, topics = zip(*batch)
        yield list(texts), np.array(topics)


def run():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=300)
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--truth")
    a = ap.parse_args()
    vectorizer = HashingVectorizer(n_features=2**14, ngram_range=(1, 2))
    held_out_x, held_out_y = next(minibatches(a.seed + 1000, 400, 400))
    held_out_x = vectorizer.transform(held_out_x)
    model = SGDClassifier(loss="modified_huber", random_state=a.seed)
    times, done, epoch = [], 0, 0
    last = time.time_ns()
    while done < a.steps:
        for texts, y in minibatches(a.seed, 60 * 160, 160):
            model.partial_fit(vectorizer.transform(texts), y, classes=[0, 1, 2, 3])
            done += 1
            now = time.time_ns()
            times.append(("train", last, now))
            last = now
            if done >= a.steps:
                break
        epoch += 1
        loss = float(log_loss(held_out_y, model.predict_proba(held_out_x) * 0.98 + 0.005))
        print("epoch", epoch, "validation", round(loss, 4), flush=True)
        now = time.time_ns()
        times.append(("validation", last, now))
        last = now
    print("final loss", repr(loss))
    if a.truth:
        with open(a.truth, "w") as f:
            json.dump({"steps": [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times], "final_loss": loss}, f)


run()
