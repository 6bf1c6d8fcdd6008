"""Train a small convolutional network on drawn shapes, with PyTorch's DataLoader.

Loader workers draw circles, squares, triangles and crosses with noise; the main process classifies them. Validation after every
epoch.

    python train_torch_cnn.py --steps 300 --workers 2
"""

import argparse
import json
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Shapes(Dataset):
    """Images of one of four shapes, drawn on demand; image ``i`` depends on the seed and on ``i`` alone."""

    def __init__(self, count, size, seed):
        self.count, self.size, self.seed = count, size, seed

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = np.random.default_rng([self.seed, index])
        label = int(rng.integers(4))
        centre = rng.uniform(0.35, 0.65, size=2) * self.size
        radius = rng.uniform(0.15, 0.3) * self.size
        y, x = np.mgrid[0 : self.size, 0 : self.size]
        dy, dx = (y - centre[0]) / radius, (x - centre[1]) / radius
        if label == 0:
            inside = dx**2 + dy**2 < 1
        elif label == 1:
            inside = np.maximum(abs(dx), abs(dy)) < 0.9
        elif label == 2:
            inside = (dy < 0.8) & (dy > 2 * abs(dx) - 0.9)
        else:
            inside = (abs(dx) < 0.25) & (abs(dy) < 1) | (abs(dy) < 0.25) & (abs(dx) < 1)
        colour = rng.uniform(0.4, 1.0, size=3)
        image = inside[None] * colour[:, None, None] + rng.normal(0, 0.15, size=(3, self.size, self.size))
        return torch.from_numpy(image.astype(np.float32)), label


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classify = nn.Linear(4 * width, 4)

    def forward(self, images):
        return self.classify(self.features(images).flatten(1))


def evaluate(model, loader):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for images, labels in loader:
            right += int((model(images).argmax(1) == labels).sum())
            total += len(labels)
    model.train()
    return right / total


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=1600, help="images per epoch")
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--truth", help="write this script's own step times to this file at exit")
    return parser.parse_args()


def main():
    args = parse_arguments()
    torch.manual_seed(args.seed)
    train = DataLoader(
        Shapes(args.images, 32, args.seed), batch_size=args.batch, shuffle=True, num_workers=args.workers, drop_last=True
    )
    test = DataLoader(Shapes(256, 32, args.seed + 1), batch_size=64)
    model = Net(args.width)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    criterion = nn.CrossEntropyLoss()

    times = []
    step = epoch = 0
    last = time.time_ns()
    while step < args.steps:
        for images, labels in train:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            step += 1
            now = time.time_ns()
            times.append(("train", last, now))
            last = now
            if step % 25 == 0:
                print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
            if step == args.steps:
                break
        epoch += 1
        accuracy = evaluate(model, test)
        print(f"epoch {epoch:3d}  accuracy {accuracy:.3f}", flush=True)
        now = time.time_ns()
        times.append(("validation", last, now))
        last = now

    print(f"final loss {loss.item()!r}")
    if args.truth:
        with open(args.truth, "w") as file:
            steps = [{"kind": kind, "start_ns": start, "end_ns": end} for kind, start, end in times]
            json.dump({"steps": steps, "final_loss": loss.item()}, file)


if __name__ == "__main__":
    main()
