# ruff: noqa
import random, time

random.seed(2)


def qs(xs):
    if len(xs) < 2:
        return xs
    p = xs[len(xs) // 2]
    return qs([x for x in xs if x < p]) + [x for x in xs if x == p] + qs([x for x in xs if x > p])


end = time.time() + 5
n = 1000
while time.time() < end:
    n = int(n * random.uniform(1.05, 2.2)) if n < 300000 else 1500
    qs([random.random() for _ in range(n)])
