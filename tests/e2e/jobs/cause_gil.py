"""Python threads fight for the interpreter lock: tokenisers run beside a training loop that is itself Python."""

import argparse
import json
import random
import threading
import time


def tokenise(stop, counts, seed):
    """Count letter pairs of random sentences, in pure Python, until told to stop."""
    rng = random.Random(seed)
    while not stop.is_set():
        text = "".join(rng.choice("etaoinshrdlu ") for _ in range(400))
        for a, b in zip(text, text[1:]):
            counts[a + b] = counts.get(a + b, 0) + 1


def train_step(weights, rng):
    """Perceptron updates on a few sparse examples."""
    mistakes = 0
    for _ in range(800):
        features = [rng.randrange(len(weights)) for _ in range(60)]
        label = 1 if sum(features) % 2 else -1
        score = sum(weights[f] for f in features)
        if score * label <= 0:
            mistakes += 1
            for f in features:
                weights[f] += 0.1 * label
    return mistakes / 800.0


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=120)
    ap.add_argument("--threads", type=int, default=3)
    ap.add_argument("--seed", type=int, default=5)
    ap.add_argument("--truth")
    a = ap.parse_args()
    stop = threading.Event()
    threads = [threading.Thread(target=tokenise, args=(stop, {}, a.seed + n)) for n in range(a.threads)]
    for thread in threads:
        thread.start()
    rng, weights, times = random.Random(a.seed), [0.0] * 5000, []
    last = time.time_ns()
    for step in range(a.steps):
        loss = train_step(weights, rng)
        now = time.time_ns()
        times.append(("train", last, now))
        last = now
        if step % 50 == 0:
            print(step, loss, flush=True)
    stop.set()
    for thread in threads:
        thread.join()
    print("final loss", repr(loss))
    if a.truth:
        with open(a.truth, "w") as f:
            steps = [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times]
            share = a.threads / (a.threads + 1)
            json.dump({"steps": steps, "final_loss": loss, "cause": "gil-bound", "share": share}, f)


if __name__ == "__main__":
    main()
