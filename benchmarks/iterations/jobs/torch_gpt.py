# ruff: noqa
import os, sys, time, tempfile
import torch, torch.nn as nn, torch.nn.functional as F
import truth

torch.set_num_threads(1)
torch.manual_seed(0)
ACC = int(sys.argv[1]) if len(sys.argv) > 1 else 4
STYLE = sys.argv[2] if len(sys.argv) > 2 else "inner"
STEPS = int(sys.argv[3]) if len(sys.argv) > 3 else 60


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a = nn.MultiheadAttention(d, 4, batch_first=True)
        self.n1 = nn.LayerNorm(d)
        self.n2 = nn.LayerNorm(d)
        self.m = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x):
        h = self.n1(x)
        x = x + self.a(h, h, h, need_weights=False)[0]
        return x + self.m(self.n2(x))


class GPT(nn.Module):
    def __init__(self, d=96, n=3, v=128):
        super().__init__()
        self.e = nn.Embedding(v, d)
        self.blocks = nn.ModuleList(Block(d) for _ in range(n))
        self.h = nn.Linear(d, v)

    def forward(self, i):
        x = self.e(i)
        for block in self.blocks:
            x = block(x)
        return self.h(x)


model = GPT()
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
data = torch.randint(0, 128, (20000,))


def get_batch():
    ix = torch.randint(0, 19900, (4,)).tolist()
    return torch.stack([data[i : i + 64] for i in ix]), torch.stack([data[i + 1 : i + 65] for i in ix])


@torch.no_grad()
def estimate_loss():
    losses = []
    for _ in range(10):
        x, y = get_batch()
        losses.append(F.cross_entropy(model(x).view(-1, 128), y.view(-1)).item())
    return sum(losses) / 10


if STYLE == "inner":
    for step in range(STEPS):
        t0 = time.time_ns()
        for micro in range(ACC):
            x, y = get_batch()
            loss = F.cross_entropy(model(x).view(-1, 128), y.view(-1)) / ACC
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        truth.done(t0)
        if step and step % 20 == 0:
            t0 = time.time_ns()
            print(step, estimate_loss())
            truth.done(t0, "validation")
            torch.save(model.state_dict(), os.path.join(tempfile.gettempdir(), f"gpt_{os.getpid()}.pt"))
else:
    t0 = time.time_ns()
    for it in range(STEPS * ACC):
        x, y = get_batch()
        loss = F.cross_entropy(model(x).view(-1, 128), y.view(-1)) / ACC
        loss.backward()
        if (it + 1) % ACC == 0:
            opt.step()
            opt.zero_grad()
            truth.done(t0)
            t0 = time.time_ns()
            if (it + 1) % (ACC * 25) == 0:
                print(it, estimate_loss())
                truth.done(t0, "validation")
                t0 = time.time_ns()
try:
    os.unlink(os.path.join(tempfile.gettempdir(), f"gpt_{os.getpid()}.pt"))
except OSError:
    pass
