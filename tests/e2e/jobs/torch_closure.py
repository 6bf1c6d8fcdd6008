"""A Trainer class of one's own whose optimiser takes a closure."""

import argparse
import json
import time

import torch


class Siren(torch.nn.Module):
    """A sine network that learns an image as a function of its coordinates."""

    def __init__(self, width):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            [torch.nn.Linear(2, width), torch.nn.Linear(width, width), torch.nn.Linear(width, width)]
        )
        self.out = torch.nn.Linear(width, 3)

    def forward(self, x):
        for layer in self.layers:
            x = torch.sin(4.0 * layer(x))
        return self.out(x)


class Trainer:
    def __init__(self, args):
        torch.manual_seed(args.seed)
        side = torch.linspace(-1, 1, 64)
        self.points = torch.cartesian_prod(side, side)
        x, y = self.points.T
        self.colours = torch.stack([torch.sin(9 * x * y), torch.cos(5 * x) * y, (x**2 + y**2 < 0.5).float()], dim=1)
        self.net = Siren(args.width)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.times = []

    def fit(self, steps):
        last = time.time_ns()
        for step in range(steps):
            chosen = torch.randint(len(self.points), (2048,))

            def closure(chosen=chosen):
                self.optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(self.net(self.points[chosen]), self.colours[chosen])
                loss.backward()
                return loss

            loss = self.optimizer.step(closure)
            now = time.time_ns()
            self.times.append(("train", last, now))
            last = now
            if step % 50 == 0:
                print("step", step, "loss", round(loss.item(), 5), flush=True)
        return loss.item()


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=300)
    ap.add_argument("--width", type=int, default=192)
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--truth")
    args = ap.parse_args()
    trainer = Trainer(args)
    final = trainer.fit(args.steps)
    print("final loss", repr(final))
    if args.truth:
        with open(args.truth, "w") as f:
            steps = [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in trainer.times]
            json.dump({"steps": steps, "final_loss": final}, f)
