# ruff: noqa
import time
import torch, torch.nn as nn
import truth

torch.set_num_threads(1)
G = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 784))
D = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 1))
og, od = torch.optim.Adam(G.parameters(), 2e-4), torch.optim.Adam(D.parameters(), 2e-4)
lf = nn.BCEWithLogitsLoss()
data = torch.randn(4096, 784)
for epoch in range(5):
    for i in range(0, 4096, 128):
        t0 = time.time_ns()
        real = data[i : i + 128]
        z = torch.randn(128, 64)
        fake = G(z)
        od.zero_grad()
        l = lf(D(real), torch.ones(128, 1)) + lf(D(fake.detach()), torch.zeros(128, 1))
        l.backward()
        od.step()
        og.zero_grad()
        l2 = lf(D(fake), torch.ones(128, 1))
        l2.backward()
        og.step()
        truth.done(t0)
    print(epoch, l.item(), l2.item())
