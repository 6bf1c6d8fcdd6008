# ruff: noqa
import sys, time
import torch, torch.nn as nn
from torch.utils.data import Dataset, DataLoader
import truth

torch.set_num_threads(1)
WORKERS = int(sys.argv[1]) if len(sys.argv) > 1 else 2


class Images(Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        x = torch.randn(3, 32, 32, generator=g)
        for _ in range(3):
            x = torch.roll(x, 1, 1)
        return x, i % 10


def evaluate(model, loader):
    model.eval()
    good = 0
    with torch.no_grad():
        for x, y in loader:
            good += (model(x).argmax(1) == y).sum().item()
    return good


def main():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 64, 10),
    )
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    lossf = nn.CrossEntropyLoss()
    train, test = DataLoader(Images(1280), 64, shuffle=True, num_workers=WORKERS), DataLoader(Images(256), 64, num_workers=0)
    for epoch in range(4):
        model.train()
        t0 = time.time_ns()
        for x, y in train:
            opt.zero_grad()
            loss = lossf(model(x), y)
            loss.backward()
            opt.step()
            truth.done(t0)
            t0 = time.time_ns()
        t0 = time.time_ns()
        print(epoch, loss.item(), evaluate(model, test))
        truth.done(t0, "validation")


if __name__ == "__main__":
    main()
