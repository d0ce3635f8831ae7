#!/usr/bin/env python3
"""What disturbs streamed weights, and what becomes of the text: a storage that falls to a tenth of
its speed in the middle, a process that empties the page cache and takes both processors, and a file
that is cut short. The text must be that of an undisturbed run, or the program must end with a
message; it must never crash. The table of docs/streaming.md.

usage: measure_stream_faults.py EDGE MODEL WORK [--threads 2] [-n TOKENS] [--share 50]
WORK receives a copy of the model and must lie on a device that the kernel can throttle (cgroup
version 1, needs root). --share: percent of the weights in memory. Standard library only."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

THROTTLE = pathlib.Path("/sys/fs/cgroup/blkio") / f"rwkv-faults-{os.getpid()}"


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


class Throttle:
    """A blkio cgroup that reads a device at a speed, which may change; 0: as fast as it is."""

    def __init__(self, path, speed):
        THROTTLE.mkdir(exist_ok=True)
        self.device = os.stat(path).st_dev
        self.set(speed)

    def set(self, speed):
        (THROTTLE / "blkio.throttle.read_bps_device").write_text(
            f"{os.major(self.device)}:{os.minor(self.device)} {int(speed * 1e6)}")

    def close(self):
        THROTTLE.rmdir()


class Generation:
    """The program on the copy of the model, in the throttled group."""

    def __init__(self, edge, model, limit, n, threads):
        self.start = time.monotonic()
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f'echo $$ > {THROTTLE}/cgroup.procs; exec "$0" "$@"', edge,
             "generate", model, "--ids", "--prompt", "1 2 3", "-n", n, "--temp", "0", "-q",
             "-t", threads, "--memory", "streamed", "--memory-limit", str(limit)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self):
        out, err = self.process.communicate()
        return self.process.returncode, out, err, time.monotonic() - self.start


def slow_down(throttle, after):
    time.sleep(after)
    throttle.set(30)


def evict(path, stop):
    """Empties the page cache of the model and keeps both processors busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(100000))"])
            for _ in range(2)]
    with open(path, "rb") as file:
        while not stop.wait(0.05):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    for process in busy:
        process.kill()
        process.wait()


def row(name, result, expected, n):
    code, out, err, seconds = result
    rate = f"{int(n) / seconds:.2f}" if code == 0 else ""
    if code == 0:
        outcome = "the same text" if out == expected else "ANOTHER TEXT"
    else:
        outcome = f"ended with {code}: {err.strip().splitlines()[-1] if err.strip() else 'nothing'}"
    print(f"| {name} | {rate} | {outcome} |", flush=True)
    return code == 0 and out == expected


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    edge, model, work = sys.argv[1:4]
    threads, n = option("--threads", "2"), option("-n", "40")
    copy = str(pathlib.Path(work) / "faults.gguf")
    shutil.copyfile(model, copy)
    needs = subprocess.run([edge, "inspect", copy], check=True, stdout=subprocess.PIPE,
                           text=True).stdout
    streamed = re.search(r"streamed +([0-9.]+) MB  reads (?:at most )?([0-9.]+) MB", needs)
    limit = int((float(streamed[1]) + 8 + float(streamed[2]) * float(option("--share", "50")) / 100)
                * 1e6)
    print("| disturbance | tokens/s | outcome |\n| --- | --- | --- |")
    throttle = Throttle(copy, 300)
    try:
        run = lambda: Generation(edge, copy, limit, n, threads)
        result = run().end()
        expected = result[1]
        seconds = result[3]
        is_well = row("none, 300 MB/s", result, expected, n)
        generation = run()
        slower = threading.Thread(target=slow_down, args=(throttle, seconds / 3))
        slower.start()
        is_well &= row("after a third of the time 30 MB/s", generation.end(), expected, n)
        slower.join()
        throttle.set(300)
        stop = threading.Event()
        other = threading.Thread(target=evict, args=(copy, stop))
        other.start()
        is_well &= row("page cache emptied, both processors busy", run().end(), expected, n)
        stop.set()
        other.join()
        generation = run()
        time.sleep(seconds / 2)
        os.truncate(copy, os.path.getsize(copy) // 2)
        result = generation.end()
        row("the file cut in half", result, expected, n)
        is_well &= result[0] == 1 and "became shorter" in result[2]
    finally:
        throttle.close()
        os.unlink(copy)
    sys.exit(0 if is_well else "measure_stream_faults.py: error: not as it must be")


if __name__ == "__main__":
    main()
