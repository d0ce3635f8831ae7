#!/usr/bin/env python3
"""What the main work takes for models of published sizes: CPU seconds, seconds on the clock, peak
memory. The table of docs/true_size.md.

usage: true_size.py BUILD WORK [--sizes 0.1B,0.4B] [--archs v7,v5.2] [--tasks convert,plan]
                    [--threads N] [--limit SECONDS] [--set KEY=VALUE]...

Sizes: 0.1B 0.4B 1.5B 3B. Models are synthetic: random weights with the shapes of published ones.
Each lies in WORK while it is measured (two bytes per parameter), with what is made of it. Rows are
printed as they are measured; one that is not done after --limit says so.

Tasks: a preset with calibration text: rwkv-lite-int8 (short: convert), rwkv-lite-lut4, lut4, lut3;
plan; recover: low rank, training block by block, then as a whole, few steps of each; a row for each
of the three. `others` is what other programs took of the machine's processors meanwhile (Linux).
Standard library only.
"""
import argparse
import json
import os
import pathlib
import shutil
import sys
import time

SIZES = {"0.1B": (12, 768), "0.4B": (24, 1024), "1.5B": (24, 2048), "3B": (32, 2560)}
VOCABULARY = 65536
BUDGET = 0.7  # bytes in memory for each parameter that a plan gets
RECOVER = """name: recover
stages:
  - low_rank: {{method: svd, factor: 8}}
  - train: {{mode: blocks, block_steps: 4, sequences: 32, steps: 2, batch: 8, length: 256,
            micro_batch: 8, recompute: true, teacher_top_k: 32, parameters: [factors],
            save_every: 1000, data: [{text}]}}
  - quantize: {{codec: i8_row, lora_codec: i8_row}}
"""


def parameters(layers, width):
    """About as many as both versions have."""
    return 2 * VOCABULARY * width + 13 * layers * width * width


def busy_seconds():
    """CPU seconds of all programs since the machine started."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    """Bytes of memory that a process has now."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            found = [line.split()[1] for line in file if line.startswith("VmRSS")]
        return 1024 * int(found[0]) if found else 0
    except (FileNotFoundError, ProcessLookupError):
        return 0


class Run:
    """A command that was run: what it took, and its memory over time."""

    def __init__(self, command, log, limit):
        busy, self.memory, self.is_done = busy_seconds(), [], True
        with open(log, "ab") as output:
            before = time.monotonic()
            process = os.posix_spawn(command[0], command, os.environ, file_actions=[
                (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, output.fileno(), 2)])
            pid = 0
            while pid == 0:
                time.sleep(0.1)
                self.memory.append((time.time(), resident(process)))
                if limit and time.monotonic() - before > limit and self.is_done:
                    os.kill(process, 15)
                    self.is_done = False
                pid, status, used = os.wait4(process, os.WNOHANG)
        if status != 0 and self.is_done:
            sys.exit(f"true_size.py: error: {' '.join(command)}: failed; see {log}")
        self.wall = time.monotonic() - before
        self.cpu = used.ru_utime + used.ru_stime
        self.peak = used.ru_maxrss * 1024
        self.others = (busy_seconds() - busy - self.cpu) / (self.wall * os.cpu_count())

    def peak_between(self, begin, end):
        """The most memory that was seen between two moments."""
        return max((size for moment, size in self.memory if begin <= moment <= end), default=0)


def print_row(what, model, cells):
    print(f"| {what} | {model} | " + " | ".join(cells) + " |", flush=True)


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
        convert = [self.press, "convert", model, "-o", f"{model}.gguf", "--force"]
        if task == "plan":
            budget = str(int(BUDGET * parameters(layers, width)))
            return [self.press, "plan", model, "--fit", budget] + learn + settings
        if task == "recover":
            recipe = self.work / "recover.yaml"
            recipe.write_text(RECOVER.format(text=(self.work / "text.txt").absolute()))
            return convert + ["--recipe", str(recipe), "--json-log", f"{model}.jsonl",
                              "--vocab", "bytes"] + settings
        preset = "rwkv-lite-int8" if task == "convert" else task
        return convert + ["--preset", preset] + learn + settings

    def measure(self, arch, size):
        """The rows of one model."""
        layers, width = SIZES[size]
        model = str(self.work / f"{arch}-{size}.pth")
        log = str(self.work / f"{arch}-{size}.log")
        Run([self.press, "synth", "--arch", arch, "--n-layer", str(layers), "--n-embd", str(width),
             "--n-vocab", str(VOCABULARY), "-o", model, "--force", "--quiet"], log, 0)
        for task in self.arguments.tasks.split(","):
            run = Run(self.command(task, model, layers, width), log, self.arguments.limit)
            cells = [f"{run.cpu:.0f}", f"{run.wall:.0f}", f"{100 * run.others:.0f} %",
                     f"{run.peak / 1e9:.2f}"]
            print_row(task, f"{arch} {size}", cells + ([] if run.is_done else ["stopped"]))
            if task == "recover" and run.is_done:
                for row in parts_of(run, f"{model}.jsonl"):
                    print_row(*row)
        for path in self.work.glob(f"{arch}-{size}.pth*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def parts_of(run, path):
    """Rows of the parts of a recovery: their seconds on the clock and their memory."""
    with open(path, encoding="ascii") as file:
        events = [json.loads(line) for line in file]
    begin, blocks, whole, end = (None,) * 4
    for event in events:
        text = event.get("text", "")
        if event["event"] == "stage_begin" and event["name"] == "low_rank":
            begin = event["time"]
        elif event["event"] == "stage_begin" and event["name"] == "train":
            blocks = event["time"]
        elif text.startswith("train: ") and " blocks, " in text:
            whole = event["time"]
        elif event["event"] == "stage_end" and event["name"] == "train":
            end = event["time"]
    for name, first, last in (("low rank", begin, blocks), ("block by block", blocks, whole),
                              ("as a whole", whole, end)):
        if first is not None and last is not None:
            yield f"- {name}", "", ["", f"{last - first:.0f}", "",
                                    f"{run.peak_between(first, last) / 1e9:.2f}"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("work")
    parser.add_argument("--sizes", default="0.1B,0.4B")
    parser.add_argument("--archs", default="v7,v5.2")
    parser.add_argument("--tasks", default="convert,plan")
    parser.add_argument("--threads", default="")
    parser.add_argument("--limit", type=float, default=0)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    models = Models(arguments)
    print("| what | model | CPU seconds | seconds on the clock | others | peak memory, GB |\n"
          "| --- | --- | --- | --- | --- | --- |")
    for size in arguments.sizes.split(","):
        for arch in arguments.archs.split(","):
            models.measure(arch, size)


main()
