#!/usr/bin/env python3
"""What the main work takes for models of published sizes: CPU seconds, seconds on the clock, peak
memory. The table of docs/true_size.md.

usage: true_size.py BUILD WORK [--sizes 0.1B,0.4B] [--archs v7,v5.2] [--tasks convert,plan]
                    [--threads N] [--set KEY=VALUE]...

Sizes: 0.1B 0.4B 1.5B 3B. Models are synthetic: random weights with the shapes of published ones.
Each lies in WORK while it is measured (two bytes per parameter), with what is made of it. Rows are
printed as they are measured. Standard library only.
"""
import argparse
import os
import pathlib
import sys
import time

SIZES = {"0.1B": (12, 768), "0.4B": (24, 1024), "1.5B": (24, 2048), "3B": (32, 2560)}
VOCABULARY = 65536
BUDGET = 0.7  # bytes in memory for each parameter that a plan gets


def parameters(layers, width):
    """About as many as both versions have."""
    return 2 * VOCABULARY * width + 13 * layers * width * width


def measured(command, log):
    """Runs a command: its CPU seconds, seconds on the clock and peak memory in bytes."""
    with open(log, "ab") as output:
        before = time.monotonic()
        process = os.posix_spawn(command[0], command, os.environ, file_actions=[
            (os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)])
        _, status, used = os.wait4(process, 0)
    if status != 0:
        sys.exit(f"true_size.py: error: {' '.join(command)}: failed; see {log}")
    return used.ru_utime + used.ru_stime, time.monotonic() - before, used.ru_maxrss * 1024


def write_text(path):
    """Text to learn from; its content makes no difference for random weights."""
    path.write_text(" ".join(f"{i * i % 977}" for i in range(20000)))


class Models:
    """The executable and the folder with the model that is measured."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.press = str(pathlib.Path(arguments.build) / "bin" / "rwkv-press")
        self.work = pathlib.Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        write_text(self.work / "text.txt")
        if arguments.threads:
            os.environ["RWKV_PRESS_THREADS"] = os.environ["OMP_NUM_THREADS"] = arguments.threads

    def command(self, task, model, layers, width):
        """The command line of a task."""
        learn = ["--vocab", "bytes", "--calibration", str(self.work / "text.txt")]
        settings = [part for one in self.arguments.set for part in ("--set", one)]
        if task == "convert":
            return [self.press, "convert", model, "-o", f"{model}.gguf", "--preset",
                    "rwkv-lite-int8", "--force"] + learn + settings
        budget = str(int(BUDGET * parameters(layers, width)))
        return [self.press, "plan", model, "--fit", budget] + learn + settings

    def measure(self, arch, size):
        """The rows of one model."""
        layers, width = SIZES[size]
        model = str(self.work / f"{arch}-{size}.pth")
        log = str(self.work / f"{arch}-{size}.log")
        measured([self.press, "synth", "--arch", arch, "--n-layer", str(layers), "--n-embd",
                  str(width), "--n-vocab", str(VOCABULARY), "-o", model, "--force", "--quiet"], log)
        for task in self.arguments.tasks.split(","):
            cpu, wall, peak = measured(self.command(task, model, layers, width), log)
            print(f"| {task} | {arch} {size} | {cpu:.0f} | {wall:.0f} | {peak / 1e9:.2f} |",
                  flush=True)
        for path in self.work.glob(f"{arch}-{size}.pth*"):
            path.unlink()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("work")
    parser.add_argument("--sizes", default="0.1B,0.4B")
    parser.add_argument("--archs", default="v7,v5.2")
    parser.add_argument("--tasks", default="convert,plan")
    parser.add_argument("--threads", default="")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    models = Models(arguments)
    print("| what | model | CPU seconds | seconds on the clock | peak memory, GB |\n"
          "| --- | --- | --- | --- | --- |")
    for size in arguments.sizes.split(","):
        for arch in arguments.archs.split(","):
            models.measure(arch, size)


main()
