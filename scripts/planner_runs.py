"""What the scripts that try the planner share: a model and its texts, and the commands on them."""
import argparse
import json
import pathlib
import subprocess
import sys

UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


def fail(message):
    """Ends the script with one line."""
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: error: {message}")


def run(command):
    """The standard output of a command that must work."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: status {done.returncode}")
    return done.stdout.decode()


def bytes_of(text):
    """2.5MB as a number."""
    unit = next((name for name in UNITS if text.endswith(name)), "")
    return int(float(text[: len(text) - len(unit)]) * UNITS.get(unit, 1))


def parser_for(usage, executables=("press",)):
    """The arguments that all of them take: executables, a checkpoint, a folder, texts."""
    parser = argparse.ArgumentParser(description=usage,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*executables, "checkpoint", "work"):
        parser.add_argument(name)
    for name in ("--vocab", "--calibration", "--text"):
        parser.add_argument(name, required=True)
    parser.add_argument("--max-tokens", default="8192")
    parser.add_argument("--set", action="append", default=[])
    return parser


class Runs:
    """rwkv-press on one checkpoint, its files in a work folder."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.work = pathlib.Path(arguments.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.vocab = ["--vocab", arguments.vocab]
        self.learn = self.vocab + ["--calibration", arguments.calibration]

    def plan(self, limits, settings=(), curves="curves.json"):
        """What the planner says of its recipe; `limits` like ["--fit", "2MB"]. What it measures is
        kept in the work folder."""
        overrides = [part for value in (*settings, *self.arguments.set) for part in ("--set", value)]
        return json.loads(run([self.arguments.press, "plan", self.arguments.checkpoint, *limits,
                               "--json", "--quiet", "--curves", self.work / curves]
                              + self.learn + overrides))

    def convert(self, recipe, packed, learns=True):
        """A recipe file to a packed file."""
        run([self.arguments.press, "convert", self.arguments.checkpoint, "-o", packed, "--force",
             "--quiet", "--recipe", recipe] + (self.learn if learns else self.vocab))

    def kl(self, packed):
        """KL of a packed file to the checkpoint on the held-out text, and its standard error."""
        score = json.loads(run([self.arguments.press, "eval", packed, "--json", "--quiet", "--text",
                                self.arguments.text, "--reference", self.arguments.checkpoint,
                                "--max-tokens", self.arguments.max_tokens] + self.vocab))
        scored = score[0]["texts"][0]
        return scored["kl"], scored["kl_standard_error"]

    def once(self, name, make):
        """What `make` gives, as JSON; kept in the work folder and not made again."""
        kept = self.work / f"{name}.json"
        if not kept.exists():
            kept.write_text(json.dumps(make()))
        return json.loads(kept.read_text())
