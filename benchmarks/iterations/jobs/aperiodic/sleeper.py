# ruff: noqa
import time

for i in range(25):
    time.sleep(0.25)
