#!/usr/bin/env python3
"""Writes procedural English stories that end in a question whose one-word answer the story
determines: what the demo model is trained and tested on.

usage: demo_stories.py OUTDIR [--seed 1] [--train 100000] [--valid 1000] [--test 1000]
                       [--n-vocab 4096]
OUTDIR gets train.txt, valid.txt and test.txt (a story a line), valid.jsonl and test.jsonl (the same
stories in LAMBADA's form: the model must guess the last word of "text"), drills.txt and
lessons.txt (for the start: looking up and little else; -valid.txt the same) and vocab.txt (World
form).
The same arguments give the same bytes everywhere. Standard library only, Python 3.9 or newer."""
import argparse
import collections
import hashlib
import itertools
import json
import os
import pathlib
import re
import sys

from demo_story import (LISTS, PLAIN, SHORT, SHORT_OPENINGS, WHOLE, Dice, Ranked, pick_by_share,
                        tell_story)
from demo_vocabulary import make_vocabulary, tokens_of, vocabulary_line

# How often each kind of question is asked, in percent.
KIND_SHARES = {"recall": 46, "who": 20, "where": 24, "count": 10}
WORD_LIMITS, TOKEN_LIMITS = (20, 60), (26, 72)  # of a whole story
TWO_PEOPLE_SHARE = 0.9  # of whole stories; the others have three
# Of the stories that are learnt from: those told short, and those with more than one question.
SHORT_SHARE, QUIZ_SHARE = 0.1, 0.95
# Of the drills: how often they are short stories or pairs of a few frequent words, and what is
# paired.
DRILL_STORY_SHARE, DRILL_EASY_SHARE = 0.35, 0.7
DRILL_LISTS = (("NAMES", "OBJECTS"), ("NAMES", "PLACES"), ("OBJECTS", "PLACES"), ("NAMES", "JOBS"),
               ("NAMES", "TOWNS"), ("NAMES", "HOBBIES"), ("NAMES", "FOODS"), ("NAMES", "ANIMALS"),
               ("NAMES", "MOODS"), ("OBJECTS", "LOOKS"), ("OBJECTS", "COLOURS"),
               ("OBJECTS", "MATERIALS"), ("NAMES", "HAIR"))
DRILL_KIND_SHARES = (46, 24, 22, 8)
# Of the lessons: how many are drills, the kinds of the others, and how many people they have.
LESSON_DRILL_SHARE, LESSON_KIND_SHARES = 0.25, (22, 22, 30, 26)
LESSON_PEOPLE = (2, 2, 2, 3)
EXTRA_VALID = 300  # of drills and of lessons, not learnt from
SPLITS = ("train", "valid", "test")
# Looking up is learnt from few words first.
FEW = {name: Ranked(LISTS[name].words[:16]) for name in ("NAMES", "OBJECTS", "PLACES")}


def make_story(dice):
    """A story of a size within the limits, and its skeleton. Those that are learnt from ask more
    than one question as a rule, and some are short: a small model learns to look a fact up where
    there is little else to predict."""
    kind = tuple(KIND_SHARES)[pick_by_share(dice, list(KIND_SHARES.values()))]
    while True:
        is_short = dice.chance(SHORT_SHARE)
        told, quiz, last, answer, skeleton = tell_story(dice, kind, SHORT if is_short else WHOLE,
                                                        2 if dice.chance(TWO_PEOPLE_SHARE) else 3)
        split = split_of(skeleton)
        text = told + last
        if is_short and split != "train":
            continue
        if is_short or (WORD_LIMITS[0] <= text.count(" ") + 1 <= WORD_LIMITS[1]
                        and TOKEN_LIMITS[0] <= len(tokens_of(text)) <= TOKEN_LIMITS[1]):
            if split == "train" and dice.chance(QUIZ_SHARE):
                text = told + quiz + last
            return {"text": text, "kind": kind, "answer": answer}, split


def make_drill(dice):
    """A line that is hardly anything but looking up: pairs of words and then, again and again, one
    of each pair to find the other by; or a short story of many people and all its questions."""
    if dice.chance(DRILL_STORY_SHARE):
        kind = tuple(KIND_SHARES)[pick_by_share(dice, DRILL_KIND_SHARES)]
        told, quiz, last, *_ = tell_story(dice, kind, SHORT, 3 + dice.below(3), 12)
        return told + quiz + last
    easy = dice.chance(DRILL_EASY_SHARE)
    count = 2 + dice.below(5)
    pairs = list(zip(*(dice.distinct(FEW[name] if easy else LISTS[name], count)
                       for name in dice.choice(DRILL_LISTS[:3] if easy else DRILL_LISTS))))
    if dice.chance(0.5):
        pairs = [(value, key) for key, value in pairs]
    asked = [dice.choice(pairs) for _ in range(6 + dice.below(9))]
    if dice.chance(0.3):
        asked = [(value, key) for key, value in asked]
    lines = (", ".join(f"{key} {value}" for key, value in part) for part in (pairs, asked))
    return dice.choice(SHORT_OPENINGS) + ". ".join(lines)


def make_lesson(dice):
    """A step from drills to stories: what happens changes the facts, and all is asked about."""
    if dice.chance(LESSON_DRILL_SHARE):
        return make_drill(dice)
    kind = tuple(KIND_SHARES)[pick_by_share(dice, LESSON_KIND_SHARES)]
    form = PLAIN if dice.chance(0.7) else SHORT
    told, quiz, last, *_ = tell_story(dice, kind, form, dice.choice(LESSON_PEOPLE), 12)
    return told + quiz + last


EXTRA = {"drills": make_drill, "lessons": make_lesson}


def split_of(skeleton):
    """By the skeleton alone, so that what one split tells is told in no other."""
    digest = hashlib.blake2b(skeleton.encode(), digest_size=8).digest()
    rest = int.from_bytes(digest, "big") % 100
    return "valid" if rest < 2 else "test" if rest < 5 else "train"


def make_splits(dice, sizes):
    """{split: its stories, none twice}."""
    splits = {name: {} for name in SPLITS}
    while any(len(splits[name]) < sizes[name] for name in SPLITS):
        story, split = make_story(dice)
        stories = splits[split]
        if len(stories) < sizes[split]:
            stories.setdefault(story["text"], story)
    return {name: list(stories.values()) for name, stories in splits.items()}


def write_lines(path, lines):
    """Replaces the file only when all is written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes("".join(line + "\n" for line in lines).encode())
        os.replace(beside, path)
    finally:
        if beside.exists():
            beside.unlink()


def write_all(folder, splits, extra, vocabulary):
    for name, stories in splits.items():
        write_lines(folder / f"{name}.txt", (story["text"] for story in stories))
        if name != "train":
            write_lines(folder / f"{name}.jsonl", map(json.dumps, stories))
    for name, lines in extra.items():
        write_lines(folder / f"{name}-valid.txt", lines[:EXTRA_VALID])
        write_lines(folder / f"{name}.txt", lines[EXTRA_VALID:])
    write_lines(folder / "vocab.txt", map(vocabulary_line, itertools.count(1), vocabulary))


def print_summary(splits):
    """Sizes, and the share of each kind of question."""
    for name, stories in splits.items():
        tokens = [tokens_of(story["text"]) for story in stories]
        n_words = sum(len(story["text"].split()) for story in stories)
        distinct = {token.strip() for found in tokens for token in found if token.strip().isalpha()}
        kinds = collections.Counter(story["kind"] for story in stories)
        shares = ", ".join(f"{kind} {100 * kinds[kind] / len(stories):.1f} %"
                           for kind in KIND_SHARES)
        print(f"{name}: {len(stories)} stories, {n_words} words "
              f"({len(distinct)} distinct), {sum(map(len, tokens)) / len(stories):.1f} tokens a "
              f"story; {shares}")


def whole_number(low, high):
    """A type for argparse: an integer within these limits."""

    def parse(text):
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}, found {text!r}")
        return int(text)

    return parse


def main():
    parser = argparse.ArgumentParser(description="Writes procedural stories with questions.")
    parser.add_argument("outdir", metavar="OUTDIR", type=pathlib.Path)
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=1)
    parser.add_argument("--train", type=whole_number(1, 1000000), default=100000)
    parser.add_argument("--valid", type=whole_number(1, 20000), default=1000)
    parser.add_argument("--test", type=whole_number(1, 20000), default=1000)
    parser.add_argument("--n-vocab", type=whole_number(512, 65536), default=4096)
    args = parser.parse_args()
    try:
        args.outdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"OUTDIR: {error}")
    splits = make_splits(Dice(args.seed), {name: getattr(args, name) for name in SPLITS})
    extra = {}
    for i, (name, make) in enumerate(EXTRA.items()):
        dice = Dice(args.seed + (i + 1) * 2**32)
        extra[name] = [make(dice) for _ in range(max(EXTRA_VALID + 1, args.train))]
    try:
        vocabulary = make_vocabulary(
            splits, [word for ranked in LISTS.values() for word in ranked.words], args.n_vocab)
    except ValueError as error:
        parser.error(str(error))
    try:
        write_all(args.outdir, splits, extra, vocabulary)
    except OSError as error:
        sys.exit(f"demo_stories.py: {error}")
    print_summary(splits)


if __name__ == "__main__":
    sys.exit(main())
