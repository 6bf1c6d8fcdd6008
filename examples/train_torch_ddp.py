"""Train a classifier data-parallel on several processes (gloo), with PyTorch's DistributedDataParallel.

Started plainly it spawns its own ranks, which meet through a file; under torchrun it uses torchrun's.

    python train_torch_ddp.py --ranks 2
    torchrun --standalone --nproc-per-node 2 train_torch_ddp.py

Rank 0 writes the times to ``--truth FILE``; rank ``r`` to the same name with ``.r<r>`` before the suffix.
"""

import argparse
import json
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def make_data(count, features, classes, seed):
    """Noisy clusters on a fixed random, non-linear map."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    x = torch.tanh(centres[labels]) + 1.5 * torch.randn(count, features, generator=generator)
    return TensorDataset(x, labels)


def make_model(features, width, classes):
    return nn.Sequential(
        nn.Linear(features, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )


def truth_path(path, rank):
    return path if rank == 0 else str(Path(path).with_suffix(f".r{rank}{Path(path).suffix}"))


def train(rank, args):
    torch.manual_seed(args.seed)
    data = make_data(args.samples, 64, 10, args.seed)
    sampler = DistributedSampler(data, seed=args.seed)
    loader = DataLoader(data, batch_size=args.batch, sampler=sampler, drop_last=True)
    model = DistributedDataParallel(make_model(64, args.width, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    criterion = nn.CrossEntropyLoss()

    times = []
    step = epoch = 0
    last = time.time_ns()
    while step < args.steps:
        sampler.set_epoch(epoch)
        for x, y in loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            now = time.time_ns()
            times.append(("train", last, now))
            last = now
            if rank == 0 and step % 20 == 0:
                print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
            if step == args.steps:
                break
        epoch += 1

    if rank == 0:
        print(f"final loss {loss.item()!r}")
    if args.truth:
        with open(truth_path(args.truth, rank), "w") as file:
            steps = [{"kind": kind, "start_ns": start, "end_ns": end} for kind, start, end in times]
            json.dump({"steps": steps, "final_loss": loss.item(), "rank": rank}, file)


def run_spawned(local_rank, args, store):
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(local_rank)
    os.environ["WORLD_SIZE"] = str(args.ranks)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=local_rank, world_size=args.ranks, timeout=timedelta(minutes=5)
    )
    train(local_rank, args)
    dist.destroy_process_group()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--ranks", type=int, default=2, help="processes to spawn when no launcher started this one")
    parser.add_argument("--batch", type=int, default=256, help="per rank")
    parser.add_argument("--samples", type=int, default=25_600)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--truth", help="write this script's own step times to this file at exit")
    return parser.parse_args()


def main():
    args = parse_arguments()
    if "RANK" in os.environ and "MASTER_ADDR" in os.environ:
        dist.init_process_group("gloo")
        train(dist.get_rank(), args)
        dist.destroy_process_group()
        return
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(run_spawned, args=(args, os.path.join(folder, "store")), nprocs=args.ranks)


if __name__ == "__main__":
    main()
