#!/usr/bin/env python3
"""Kills a conversion with recovery at many moments (kill -9), resumes it, and compares the bytes with
those of an undisturbed one: a table of docs/true_size.md.

usage: kill_and_resume.py BUILD WORK [--size 0.1B] [--arch v7] [--moments 20] [--threads N]
                          [--block-steps N] [--steps N]

Sizes: tiny 0.1B 0.4B. The model is synthetic. It is factorised, trained block by block and then as a
whole for a few steps, and quantised. Moments are spread evenly over the processors' time that the
undisturbed conversion took, so that a busy machine does not matter; each has a conversion of its own.
Ends with 1 if any bytes differ. Needs three times the checkpoint below WORK. Linux; standard library
only.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

# Layers, channels, vocabulary.
SIZES = {"tiny": (3, 128, 256), "0.1B": (12, 768, 65536), "0.4B": (24, 1024, 65536)}
RECIPE = """name: recovered
stages:
  - low_rank: {{method: svd, factor: 8}}
  - train: {{mode: blocks, block_steps: {block_steps}, steps: {steps}, batch: 2, length: 64,
            teacher_top_k: 32, parameters: [factors], save_every: 2, data: [{text}]}}
  - quantize: {{codec: i8_row}}
"""


def fail(message):
    sys.exit(f"kill_and_resume.py: error: {message}")


def digest(path):
    """The checksum of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(
            hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()


def cpu_seconds(pid):
    """What a process has taken so far."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def last_event(log):
    """What a conversion was at when its log ends, in words."""
    place = "before the first stage"
    try:
        lines = log.read_text().splitlines()
    except FileNotFoundError:
        return place
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # cut by the kill
            continue
        if event["event"] in ("stage_begin", "progress"):
            place = event["name"]
            if "block" in event:
                place += f", block {event['block']} of {event['blocks']}"
        elif event["event"] == "note" and event["text"].startswith(("block ", "step ")):
            place = "train, after " + event["text"].split(":")[0].split(",")[0]
        elif event["event"] == "stage_end":
            place = f"after {event['name']}"
    return place


class Conversion:
    """The command, and the folder of all files."""

    def __init__(self, arguments):
        self.press = str(pathlib.Path(arguments.build) / "bin" / "rwkv-press")
        self.work = pathlib.Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.threads = arguments.threads
        self.model = self.work / "model.pth"
        layers, width, vocabulary = SIZES[arguments.size]
        text = self.work / "text.txt"
        text.write_text(" ".join(f"{i * i % 977}" for i in range(20000)))
        (self.work / "recipe.yaml").write_text(RECIPE.format(
            block_steps=arguments.block_steps, steps=arguments.steps, text=text.absolute()))
        subprocess.run([self.press, "synth", "--arch", arguments.arch, "--n-layer", str(layers),
                        "--n-embd", str(width), "--n-vocab", str(vocabulary), "--force", "--quiet",
                        "-o", self.model], check=True, stdout=subprocess.DEVNULL)

    def command(self, folder, *more):
        """Makes `folder`/m.gguf."""
        return [self.press, "convert", str(self.model), "--recipe", str(self.work / "recipe.yaml"),
                "--vocab", "bytes", "--train-threads", self.threads, "--json-log",
                str(folder / "log.jsonl"), "--no-report", "-o", str(folder / "m.gguf"), *more]

    def start(self, folder, *more):
        """The process of a conversion; its output goes to a file of the folder."""
        folder.mkdir(exist_ok=True)
        environment = dict(os.environ, RWKV_PRESS_THREADS=self.threads,
                           OMP_NUM_THREADS=self.threads)
        with open(folder / "output.txt", "ab") as output:
            return subprocess.Popen(self.command(folder, *more), env=environment, stdout=output,
                                    stderr=output)

    def finish(self, folder, *more):
        """Runs a conversion to its end; its CPU seconds."""
        _, status, used = os.wait4(self.start(folder, *more).pid, 0)
        if status != 0:
            fail(f"the conversion failed; see {folder / 'output.txt'}")
        return used.ru_utime + used.ru_stime

    def killed(self, folder, after):
        """Starts a conversion and kills it after CPU seconds; False if it had finished."""
        process = self.start(folder)
        while process.poll() is None:
            if cpu_seconds(process.pid) >= after:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.005)
        return False


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("work")
    parser.add_argument("--size", default="0.1B", choices=SIZES)
    parser.add_argument("--arch", default="v7")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--block-steps", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    conversion = Conversion(arguments)
    took = conversion.finish(conversion.work / "whole", "--force")
    expected = digest(conversion.work / "whole" / "m.gguf")
    shutil.rmtree(conversion.work / "whole")
    print(f"undisturbed: {took:.1f} CPU s\n\n"
          "| killed after, CPU s | it was at | resumed, CPU s | bytes |\n"
          "| --- | --- | --- | --- |", flush=True)
    differ = 0
    for moment in range(1, arguments.moments + 1):
        folder = conversion.work / f"killed-{moment}"
        after = took * moment / (arguments.moments + 1)
        while not conversion.killed(folder, after):  # faster than the undisturbed one
            shutil.rmtree(folder)
            after *= 0.95
        place = last_event(folder / "log.jsonl")
        seconds = conversion.finish(folder, "--resume", "--force")
        same = digest(folder / "m.gguf") == expected
        differ += not same
        print(f"| {after:.1f} | {place} | {seconds:.1f} | {'the same' if same else 'DIFFER'} |",
              flush=True)
        if same:
            shutil.rmtree(folder)
    print(f"\n{arguments.moments - differ} of {arguments.moments} with the undisturbed bytes")
    sys.exit(1 if differ else 0)


main()
