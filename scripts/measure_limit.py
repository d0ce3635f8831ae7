#!/usr/bin/env python3
"""Generates tokens in a memory cgroup of a limit x 1.1, page cache counted: whether a model stays
within a number of bytes, and what it needs for that. A table of docs/performance.md.

usage: measure_limit.py EDGE MODEL LIMIT [-n 200] [--threads 2] [-- OPTION...]
LIMIT in MB. Needs cgroups of version 1 and root. Options after -- are passed to generate, such as
--neuron-cache 0.05 or --memory-limit 256MB. The tokens are compared with those of the same command
outside the cgroup. Standard library only."""
import os
import pathlib
import re
import subprocess
import sys
import time

GROUPS = pathlib.Path("/sys/fs/cgroup/memory")


def option(arguments, name, default):
    return arguments[arguments.index(name) + 1] if name in arguments else default


def run(command, group=None):
    """Output, what was said, and seconds; an empty output if the kernel ended it."""
    inside = ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$0" "$@"'] if group else []
    begin = time.monotonic()
    done = subprocess.run(inside + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    return done.stdout if done.returncode == 0 else "", done.stderr, time.monotonic() - begin


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    arguments = sys.argv[1:]
    more = arguments[arguments.index("--") + 1:] if "--" in arguments else []
    edge, model, limit = arguments[:3]
    n = int(option(arguments, "-n", "200"))
    command = [edge, "generate", model, "--ids", "--prompt", "1", "--temp", "0", "--seed", "1",
               "--threads", option(arguments, "--threads", "2"), "--stats", *more]
    expected, said, _ = run(command + ["-n", str(n)])
    if not expected:
        sys.exit(f"measure_limit.py: error: {' '.join(command)}: {said}")
    group = GROUPS / f"rwkv-limit-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(int(float(limit) * 1.1e6)))
    with open(model, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    _, _, first = run(command + ["-n", "1"], group)
    found, said, seconds = run(command + ["-n", str(n)], group)
    peak = int((group / "memory.max_usage_in_bytes").read_text())
    group.rmdir()
    print(said)
    print(f"options: {' '.join(more) or 'none'}")
    print(f"cgroup of {float(limit) * 1.1:.1f} MB, page cache counted: at most {peak / 1e6:.1f} MB")
    if not found:
        sys.exit("ended by the kernel")
    print(f"{n} tokens in {seconds:.1f} s, of which {first:.1f} s opening and the first: "
          f"{(n - 1) / max(1e-9, seconds - first):.1f} tokens/s")
    print(f"the same tokens as without a limit: {'yes' if found == expected else 'NO'}")
    if found != expected:
        sys.exit(1)


main()
