# ruff: noqa
import random, select, socket, threading, time, json

s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()


def client():
    random.seed(1)
    end = time.time() + 6
    while time.time() < end:
        time.sleep(random.expovariate(12))
        c = socket.create_connection(s.getsockname())
        c.sendall(b"x" * random.randint(1, 5000))
        c.shutdown(1)
        c.recv(100)
        c.close()
    socket.create_connection(s.getsockname()).close()


threading.Thread(target=client, daemon=True).start()
while True:
    r, _, _ = select.select([s], [], [], 0.5)
    if not r:
        continue
    c, _ = s.accept()
    data = b""
    while True:
        part = c.recv(65536)
        if not part:
            break
        data += part
    if not data:
        break
    out = json.dumps([hash(i) for i in range(len(data) * random.randint(1, 20))])
    c.sendall(str(len(out)).encode())
    c.close()
