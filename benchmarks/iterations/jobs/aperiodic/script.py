# ruff: noqa
import collections, hashlib, json, random, re, time

random.seed(5)
words = ["".join(random.choices("abcdefgh", k=random.randint(2, 9))) for _ in range(120000)]
count = collections.Counter(words)
text = " ".join(words)
for pattern in ("ab+c", "(a|b)(c|d)e*", "h{2}"):
    print(len(re.findall(pattern, text)))
index = {}
for i, w in enumerate(words):
    index.setdefault(w[:2], []).append(i)
blob = json.dumps(index)
print(len(blob))
json.loads(blob)


def perm(xs):
    if len(xs) < 2:
        return [xs]
    return [[x] + r for i, x in enumerate(xs) for r in perm(xs[:i] + xs[i + 1 :])]


print(len(perm(list(range(8)))))
h = b""
for i in range(300000):
    h = hashlib.sha256(h + str(i).encode()).digest()
print(h.hex())
mat = [[random.random() for _ in range(110)] for _ in range(110)]
prod = [[sum(a * b for a, b in zip(r, col)) for col in zip(*mat)] for r in mat]
time.sleep(0.4)
print(sorted(prod)[0][0])
