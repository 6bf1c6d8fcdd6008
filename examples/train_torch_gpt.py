"""Train a small character-level transformer with gradient accumulation, periodic validation and checkpoints.

The text is the source code of Python's own standard library. Every optimiser step sums the gradients of several micro-batches.

    python train_torch_gpt.py --steps 200 --accumulate 4 --validate-every 25 --checkpoint-every 50
"""

import argparse
import contextlib
import json
import math
import os
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn


def read_text(characters):
    """The first part of the standard library's source, modules in alphabetical order, ASCII only."""
    folder = os.path.dirname(os.__file__)
    text = []
    size = 0
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py") and size < characters:
            with open(os.path.join(folder, name), encoding="utf-8", errors="ignore") as file:
                source = "".join(c for c in file.read() if c.isascii())
            text.append(source)
            size += len(source)
    return "".join(text)[:characters]


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary, context, width, heads, layers):
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens, targets):
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]))
        logits = self.head(self.norm(self.blocks(x)))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def get_batch(data, batch, context, generator):
    starts = torch.randint(len(data) - context - 1, (batch,), generator=generator)
    x = torch.stack([data[s : s + context] for s in starts])
    y = torch.stack([data[s + 1 : s + context + 1] for s in starts])
    return x, y


@torch.no_grad()
def estimate_loss(model, data, args, generator):
    model.eval()
    losses = [model(*get_batch(data, args.batch, args.context, generator)).item() for _ in range(args.validation_batches)]
    model.train()
    return sum(losses) / len(losses)


def learning_rate(step, args):
    """Linear warm-up, then a cosine."""
    warmup = max(1, args.steps // 20)
    if step < warmup:
        return args.lr * (step + 1) / warmup
    return args.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, args.steps - warmup)))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps")
    parser.add_argument("--accumulate", type=int, default=4, help="micro-batches per step")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--validate-every", type=int, default=25)
    parser.add_argument("--validation-batches", type=int, default=8)
    parser.add_argument("--checkpoint-every", type=int, default=50)
    parser.add_argument("--checkpoint-dir", help="default: a temporary folder that is removed at the end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--truth", help="write this script's own step times to this file at exit")
    return parser.parse_args()


def train(args, folder):
    torch.manual_seed(args.seed)
    text = read_text(300_000)
    vocabulary = sorted(set(text))
    index = {c: i for i, c in enumerate(vocabulary)}
    data = torch.tensor([index[c] for c in text])
    split = int(0.9 * len(data))
    train_data, test_data = data[:split], data[split:]
    model = GPT(len(vocabulary), args.context, args.width, args.heads, args.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    generator = torch.Generator().manual_seed(args.seed)

    times = []
    last = time.time_ns()
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        total = 0.0
        for _ in range(args.accumulate):
            x, y = get_batch(train_data, args.batch, args.context, generator)
            loss = model(x, y) / args.accumulate
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = time.time_ns()
        times.append(("train", last, now))
        last = now
        if (step + 1) % args.validate_every == 0:
            validation = estimate_loss(model, test_data, args, generator)
            print(f"step {step + 1:5d}  loss {total:.4f}  validation {validation:.4f}", flush=True)
            now = time.time_ns()
            times.append(("validation", last, now))
            last = now
        if (step + 1) % args.checkpoint_every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, os.path.join(folder, "checkpoint.pt"))
            now = time.time_ns()
            times.append(("checkpoint", last, now))
            last = now
    print(f"final loss {total!r}")
    return times, total


def main():
    args = parse_arguments()
    with contextlib.ExitStack() as stack:
        folder = args.checkpoint_dir or stack.enter_context(tempfile.TemporaryDirectory())
        os.makedirs(folder, exist_ok=True)
        times, loss = train(args, folder)
    if args.truth:
        with open(args.truth, "w") as file:
            steps = [{"kind": kind, "start_ns": start, "end_ns": end} for kind, start, end in times]
            json.dump({"steps": steps, "final_loss": loss}, file)


if __name__ == "__main__":
    main()
