"""Train a digit classifier on augmented images.

Worker processes rotate, shift, scale and elastically distort scikit-learn's 8x8 digits; the main process takes finished batches
in order and fits a multi-layer perceptron to them. The same seed gives the same loss, whatever the number of workers.

    python train_digits.py --steps 400 --workers 1
"""

import argparse
import json
import multiprocessing as mp
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def smooth(field, passes):
    """Blur a 2-D field with a 3x3 box, several times."""
    for _ in range(passes):
        padded = np.pad(field, 1, mode="edge")
        field = sum(padded[i : i + field.shape[0], j : j + field.shape[1]] for i in range(3) for j in range(3)) / 9.0
    return field


def bilinear(image, rows, columns):
    """Sample ``image`` at fractional coordinates, zero outside."""
    height, width = image.shape
    padded = np.zeros((height + 2, width + 2))
    padded[1:-1, 1:-1] = image
    rows = np.clip(rows + 1.0, 0.0, height + 0.999)
    columns = np.clip(columns + 1.0, 0.0, width + 0.999)
    top, left = rows.astype(int), columns.astype(int)
    y, x = rows - top, columns - left
    upper = padded[top, left] * (1 - x) + padded[top, left + 1] * x
    lower = padded[top + 1, left] * (1 - x) + padded[top + 1, left + 1] * x
    return upper * (1 - y) + lower * y


def augment(image, rng):
    """One random view of an 8x8 image: affine map plus elastic distortion."""
    angle = rng.normal(0.0, 0.15)
    zoom = rng.normal(1.0, 0.08)
    shift = rng.normal(0.0, 0.5, size=2)
    grid = np.mgrid[0:8, 0:8].astype(float) - 3.5
    rows = (np.cos(angle) * grid[0] - np.sin(angle) * grid[1]) / zoom + 3.5 + shift[0]
    columns = (np.sin(angle) * grid[0] + np.cos(angle) * grid[1]) / zoom + 3.5 + shift[1]
    rows += 4.0 * smooth(rng.normal(size=(8, 8)), passes=12)
    columns += 4.0 * smooth(rng.normal(size=(8, 8)), passes=12)
    return bilinear(image, rows, columns)


def load_batch(images, labels, args, index):
    """Batch number ``index`` of the whole run; depends on the seed and the index alone."""
    per_epoch = len(images) // args.batch
    epoch, position = divmod(index, per_epoch)
    order = np.random.default_rng([args.seed, epoch]).permutation(len(images))
    chosen = order[position * args.batch : (position + 1) * args.batch]
    rng = np.random.default_rng([args.seed, epoch, position])
    views = np.stack([augment(images[i], rng) for i in chosen])
    if args.augment_ms:
        time.sleep(args.augment_ms / 1000.0)
    return views.reshape(len(chosen), -1) / 16.0, labels[chosen]


def worker(queue, images, labels, args, number):
    """Make every ``args.workers``-th batch and put it on this worker's own queue."""
    for index in range(number, args.steps, args.workers):
        queue.put(load_batch(images, labels, args, index))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1, help="processes that augment images")
    parser.add_argument("--augment-ms", type=float, default=0.0, help="further delay per batch, as of a slow file store")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long, even before --steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--truth", help="write this script's own step times to this file at exit")
    return parser.parse_args()


def main():
    args = parse_arguments()
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(digits.images, digits.target, test_size=0.2, random_state=args.seed)
    test_x = test_x.reshape(len(test_x), -1) / 16.0
    per_epoch = len(train_x) // args.batch

    queues = [mp.Queue(maxsize=4) for _ in range(args.workers)]
    workers = [
        mp.Process(target=worker, args=(queue, train_x, train_y, args, number), daemon=True)
        for number, queue in enumerate(queues)
    ]
    for process in workers:
        process.start()

    model = MLPClassifier(hidden_layer_sizes=(args.hidden, args.hidden), learning_rate_init=1e-3, random_state=args.seed)
    classes = np.arange(10)
    times = []
    last = time.time_ns()
    deadline = time.monotonic() + args.seconds
    for step in range(args.steps):
        x, y = queues[step % args.workers].get()
        model.partial_fit(x, y, classes=classes)
        now = time.time_ns()
        times.append(("train", last, now))
        last = now
        if (step + 1) % per_epoch == 0:
            accuracy = model.score(test_x, test_y)
            print(f"epoch {(step + 1) // per_epoch:3d}  loss {model.loss_:.4f}  accuracy {accuracy:.3f}", flush=True)
            now = time.time_ns()
            times.append(("validation", last, now))
            last = now
            if time.monotonic() > deadline:
                break

    for process in workers:
        process.terminate()
        process.join()
    print(f"final loss {float(model.loss_)!r}")
    if args.truth:
        with open(args.truth, "w") as file:
            steps = [{"kind": kind, "start_ns": start, "end_ns": end} for kind, start, end in times]
            json.dump({"steps": steps, "final_loss": float(model.loss_)}, file)


if __name__ == "__main__":
    main()
