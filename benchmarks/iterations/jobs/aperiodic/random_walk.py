# ruff: noqa
import random, time

random.seed(3)


def a(n):
    return sum(i * i for i in range(n))


def b(n):
    d = {}
    for i in range(n):
        d[i % 97] = d.get(i % 97, 0) + i
    return d


def c(n):
    return sorted(random.random() for _ in range(n))


def d(n):
    return "".join(chr(65 + i % 26) for i in range(n)).lower().count("a")


end = time.time() + 6
while time.time() < end:
    random.choice((a, b, c, d))(int(10 ** random.uniform(2, 5.5)))
