"""A generative adversarial network: two networks, two optimisers, one iteration."""

import argparse
import json
import math
import time

import torch
from torch import nn, optim


def real_samples(n):
    """Points on a noisy spiral, lifted to 32 dimensions."""
    t = torch.rand(n, 1) * 3 * math.pi
    spiral = torch.cat([t * torch.cos(t), t * torch.sin(t)], dim=1) / 9.0
    return torch.cat([spiral, (spiral[:, :1] * spiral[:, 1:]).repeat(1, 30)], dim=1) + 0.02 * torch.randn(n, 32)


def mlp(*sizes):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def discriminator_update(D, G, opt, criterion, batch):
    opt.zero_grad()
    real, fake = real_samples(batch), G(torch.randn(batch, 16)).detach()
    loss = criterion(D(real), torch.ones(batch, 1)) + criterion(D(fake), torch.zeros(batch, 1))
    loss.backward()
    opt.step()
    return loss.item()


def generator_update(D, G, opt, criterion, batch):
    opt.zero_grad()
    loss = criterion(D(G(torch.randn(batch, 16))), torch.ones(batch, 1))
    loss.backward()
    opt.step()
    return loss.item()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, default=300)
    ap.add_argument("--seed", type=int, default=3)
    ap.add_argument("--truth")
    a = ap.parse_args()
    torch.manual_seed(a.seed)
    G, D = mlp(16, 384, 384, 32), mlp(32, 384, 384, 1)
    opt_g = optim.Adam(G.parameters(), lr=2e-4, betas=(0.5, 0.999))
    opt_d = optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()
    times = []
    last = time.time_ns()
    for it in range(1, a.steps + 1):
        d_loss = discriminator_update(D, G, opt_d, criterion, 384)
        g_loss = generator_update(D, G, opt_g, criterion, 384)
        now = time.time_ns()
        times.append(("train", last, now))
        last = now
        if it % 60 == 0:
            print("it %d D %.4f G %.4f" % (it, d_loss, g_loss), flush=True)
    print("final loss", repr(d_loss + g_loss))
    if a.truth:
        with open(a.truth, "w") as f:
            steps = [dict(zip(("kind", "start_ns", "end_ns"), t)) for t in times]
            json.dump({"steps": steps, "final_loss": d_loss + g_loss}, f)


if __name__ == "__main__":
    main()
