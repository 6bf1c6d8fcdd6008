"""Run a command in a new control group with a CPU quota, as a container runtime would; remove the group afterwards.

    python in_cgroup.py --cpus 0.5 -- python train.py

Needs root and either the v1 ``cpu`` hierarchy or a v2 tree whose ``cpu`` controller is delegated. Exits 77 where that is missing.
"""

import argparse
import os
import subprocess
import sys

V1, V2 = "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def make_group(cpus, period_us):
    """Create the group and return its folder. Raises OSError where it is not allowed."""
    name = "sofa-test-%d" % os.getpid()
    quota = int(cpus * period_us)
    if os.path.exists(os.path.join(V1, "cpu.cfs_quota_us")):
        folder = os.path.join(V1, name)
        os.mkdir(folder)
        write(os.path.join(folder, "cpu.cfs_period_us"), str(period_us))
        write(os.path.join(folder, "cpu.cfs_quota_us"), str(quota))
        return folder
    if "cpu" not in open(os.path.join(V2, "cgroup.subtree_control")).read().split():
        raise OSError("the cpu controller is not enabled in " + V2)
    folder = os.path.join(V2, name)
    os.mkdir(folder)
    write(os.path.join(folder, "cpu.max"), "%d %d" % (quota, period_us))
    return folder


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--cpus", type=float, default=0.5)
    ap.add_argument("--period-us", type=int, default=100_000)
    ap.add_argument("command", nargs=argparse.REMAINDER)
    a = ap.parse_args()
    command = a.command[1:] if a.command[:1] == ["--"] else a.command
    try:
        folder = make_group(a.cpus, a.period_us)
    except OSError as error:
        print("no control group with a quota here: %s" % error, file=sys.stderr)
        return 77
    try:
        child = subprocess.Popen(command, preexec_fn=lambda: write(os.path.join(folder, "cgroup.procs"), str(os.getpid())))
        return child.wait()
    finally:
        os.rmdir(folder)


if __name__ == "__main__":
    sys.exit(main())
