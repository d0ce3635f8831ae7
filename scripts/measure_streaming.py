#!/usr/bin/env python3
"""Tokens per second of streamed weights against the law min(1/C, BW/S): what the figures in
docs/streaming.md come from. C is the time of a token without waiting, S the bytes that it reads,
BW the speed of the reads, all of the same run.

usage: measure_streaming.py EDGE MODEL [--shares 25,50,75] [--speeds 100,300,0,1000b] [--threads 2]
                            [--baseline] [-n TOKENS] [-- OPTION...]
Speeds in MB/s: the kernel's throttle of the block device (cgroup version 1, needs root), 0 is the
disk as it is, a number with b the token bucket of the reader. Each run is in a memory cgroup of the
limit x 1.05, page cache counted. --baseline: the same file mapped, in the same cgroup. Options after
-- are passed to bench. Standard library only."""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

GROUPS = pathlib.Path("/sys/fs/cgroup")


class Groups:
    """A memory cgroup and a blkio cgroup of our own, version 1."""

    def __init__(self, path, limit, speed):
        name = f"rwkv-streaming-{os.getpid()}"
        self.folders = [GROUPS / "memory" / name, GROUPS / "blkio" / name]
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
        if limit:
            (self.folders[0] / "memory.limit_in_bytes").write_text(str(limit))
        device = os.stat(path).st_dev
        throttle = self.folders[1] / "blkio.throttle.read_bps_device"
        throttle.write_text(f"{os.major(device)}:{os.minor(device)} {speed}")

    def run(self, command):
        """stdout and stderr of a command inside; None if the kernel ended it."""
        enter = "; ".join(f"echo $$ > {folder}/cgroup.procs" for folder in self.folders)
        done = subprocess.run(["/bin/sh", "-c", enter + '; exec "$0" "$@"', *command],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return (done.stdout, done.stderr) if done.returncode == 0 else None

    def close(self):
        for folder in self.folders:
            folder.rmdir()


def drop_cache(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def mapped_speed(edge, model, threads, limit, speed):
    """Tokens per second of the mapped file, by the time of 1 and of 3 tokens more."""
    seconds = []
    for n in (1, 4):
        drop_cache(model)
        groups = Groups(model, limit, speed)
        start = time.monotonic()
        done = groups.run([edge, "generate", model, "--ids", "--prompt", "1", "-n", str(n),
                           "--temp", "0", "--memory", "full", "--threads", threads])
        seconds.append(time.monotonic() - start)
        groups.close()
        if done is None:
            return None
    return 3 / max(1e-9, seconds[1] - seconds[0])


def option(arguments, name, default):
    return arguments[arguments.index(name) + 1] if name in arguments else default


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    arguments = sys.argv[1:]
    more = arguments[arguments.index("--") + 1:] if "--" in arguments else []
    edge, model = arguments[:2]
    threads, n = option(arguments, "--threads", "2"), option(arguments, "-n", "8")
    needs = subprocess.run([edge, "inspect", model], check=True, stdout=subprocess.PIPE,
                           text=True).stdout
    streamed = re.search(r"streamed +([0-9.]+) MB  reads (?:at most )?([0-9.]+) MB", needs)
    least, all_bytes = (float(streamed[1]) + 8) * 1e6, float(streamed[2]) * 1e6
    print("| kept | memory | storage, MB/s | read per token S, MB | compute C, ms | waited, ms | "
          "tokens/s | law | of the law | mapped, tokens/s |\n" + "| --- " * 10 + "|", flush=True)
    for share in option(arguments, "--shares", "25,50,75").split(","):
        limit = int(least + all_bytes * float(share) / 100)
        for speed in option(arguments, "--speeds", "100,300,0,1000b").split(","):
            bucket = speed.endswith("b")
            throttle = 0 if bucket else int(float(speed) * 1e6)
            drop_cache(model)
            groups = Groups(model, int(limit * 1.05), throttle)
            done = groups.run([edge, "bench", model, "--json", "-n", n, "--prompt", "1", "--runs",
                               "1", "--threads", threads, "--memory", "streamed",
                               "--memory-limit", str(limit)]
                              + (["--read-speed", speed[:-1] + "MB"] if bucket else []) + more)
            groups.close()
            if done is None:
                print(f"| {share} % | {limit / 1e6:.0f} MB | {speed} | failed |", flush=True)
                continue
            report = json.loads(done[0])
            row = report["runs"][0]["stream"]
            needed = report["memory"]["expected_read_per_token"]
            compute = row["seconds_per_token"] - row["waited_per_token"]
            law = min(1 / compute, row["read_per_second"] / needed)
            rate = 1 / row["seconds_per_token"]
            mapped = None
            if "--baseline" in arguments and not bucket:
                mapped = mapped_speed(edge, model, threads, int(limit * 1.05), throttle)
            print(f"| {100 * report['memory']['stream']['kept_share']:.0f} % | {limit / 1e6:.0f} MB "
                  f"| {row['read_per_second'] / 1e6:.0f} | {needed / 1e6:.0f} | "
                  f"{1e3 * compute:.1f} | {1e3 * row['waited_per_token']:.1f} | {rate:.2f} | "
                  f"{law:.2f} | {100 * rate / law:.0f} % | "
                  f"{'' if mapped is None else f'{mapped:.2f}'} |", flush=True)


if __name__ == "__main__":
    main()
