#!/usr/bin/env python3
"""Speed of `rwkv-press train` on the demo model, alone and next to busy processes.

Usage: scripts/bench_train_busy.py WORK PRESS... [--rounds 5] [--busy 2] [--steps 30] [--spin N...]
  WORK     folder for stories and results, made if missing
  PRESS    executables of rwkv-press to compare; they take turns
  --busy   processes that do nothing but keep a core busy (default: as many as there are cores)
  --spin   instead of what the executable chooses: these values of GOMP_SPINCOUNT, 'default' for none

Prints tokens per second of each run, the first steps left out, and how many cores other processes
used meanwhile: with more than about 0.2 of a core a run says little. The share is the slowest run
beside busy processes over the median alone.
"""

import argparse
import csv
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS_LEFT_OUT = 4


def busy_seconds():
    """Seconds that all processors together have worked since the start of the system."""
    with open("/proc/stat", encoding="ascii") as stat:
        ticks = [int(field) for field in stat.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


def make_stories(work):
    stories = work / "stories"
    if not (stories / "vocab.txt").exists():
        subprocess.run([sys.executable, "-B", str(ROOT / "scripts/demo_stories.py"), str(stories),
                        "--train", "3000", "--valid", "1", "--test", "1", "--n-vocab", "3328"],
                       check=True, stdout=subprocess.DEVNULL)
    return stories


def run_training(press, stories, work, steps, spin, n_busy):
    """Tokens per second of one training, and the cores that others used."""
    result = work / "run"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if spin not in (None, "default"):
        environment["GOMP_SPINCOUNT"] = spin
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_busy)]
    try:
        started = time.monotonic()
        busy = busy_seconds()
        child = subprocess.Popen(
            [press, "train", str(ROOT / "configs/demo/demo.pth"), "--config",
             str(ROOT / "configs/demo/train.yaml"), "-o", str(result / "out.pth"), "--vocab",
             str(stories / "vocab.txt"), "--data", str(stories / "train.txt"), "--quiet",
             "--set", f"train.steps={steps}", "--set", "train.warmup=1"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        message = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        if status != 0:
            sys.exit(f"bench_train_busy.py: error: {press} failed: {message}")
        elapsed = time.monotonic() - started
        others = busy_seconds() - busy - usage.ru_utime - usage.ru_stime
        for hog in hogs:
            with open(f"/proc/{hog.pid}/stat", encoding="ascii") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            others -= (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    with open(result / "out.pth.work/loss.csv", encoding="ascii") as lines:
        rows = list(csv.DictReader(lines))
    first, last = rows[STEPS_LEFT_OUT - 1], rows[-1]
    rate = ((int(last["tokens"]) - int(first["tokens"])) /
            (float(last["seconds"]) - float(first["seconds"])))
    return rate, others / elapsed


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("press", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--spin", nargs="+", default=[None])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    stories = make_stories(options.work)
    subjects = [(press, spin) for press in options.press for spin in options.spin]
    alone = {subject: [] for subject in subjects}
    beside = {subject: [] for subject in subjects}
    for number in range(options.rounds):
        for n_busy, results in ((0, alone), (options.busy, beside)):
            for press, spin in subjects:
                rate, others = run_training(press, stories, options.work, options.steps, spin,
                                            n_busy)
                results[press, spin].append(rate)
                print(f"round {number + 1}, {n_busy} busy, {press}"
                      f"{'' if spin is None else ' GOMP_SPINCOUNT=' + spin}: {rate:.0f} tokens/s, "
                      f"others {others:.2f} cores", flush=True)
    print(f"\n| executable | alone, median of {options.rounds} | beside {options.busy} | share |")
    print("| --- | --- | --- | --- |")
    for press, spin in subjects:
        median = statistics.median(alone[press, spin])
        runs = " ".join(f"{rate:.0f}" for rate in beside[press, spin])
        print(f"| {press}{'' if spin is None else ' ' + spin} | {median:.0f} | {runs} | "
              f"{min(beside[press, spin]) / median:.2f} |")


if __name__ == "__main__":
    main()
