#!/usr/bin/env python3
"""Writes procedural English stories that end in a question whose one-word answer the story
determines: what the demo model is trained and tested on.

usage: demo_stories.py OUTDIR [--seed 1] [--train 100000] [--valid 1000] [--test 1000]
                       [--n-vocab 4096]
OUTDIR gets train.txt, valid.txt and test.txt (a story a line), valid.jsonl and test.jsonl (the same
stories in LAMBADA's form: the last word of "text" is to be guessed), lessons.txt and
lessons-valid.txt (to learn from: looking up and little else) and vocab.txt (World form).
The same arguments give the same bytes everywhere. Standard library only, Python 3.9 or newer."""
import argparse
import bisect
import collections
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import sys

import demo_words as words
from demo_vocabulary import make_vocabulary, tokens_of, vocabulary_line

# How often each kind of question is asked, in percent.
KIND_SHARES = {"recall": 46, "who": 24, "where": 22, "count": 8}
WORD_LIMITS, TOKEN_LIMITS = (20, 60), (26, 72)  # of a whole story
TWO_PEOPLE_SHARE = 0.9  # of whole stories; the others have three
# Of the stories that are learnt from: those told short, and those with more than one question.
SHORT_SHARE, QUIZ_SHARE = 0.1, 0.95
SHORT_OPENINGS = ("Now ", "Today ", "Here ")
# Of the drills: how often they are short stories or pairs of a few frequent words, and what is
# paired.
DRILL_STORY_SHARE, DRILL_EASY_SHARE = 0.35, 0.7
DRILL_LISTS = (("NAMES", "OBJECTS"), ("NAMES", "PLACES"), ("OBJECTS", "PLACES"), ("NAMES", "JOBS"),
               ("NAMES", "TOWNS"), ("NAMES", "HOBBIES"), ("NAMES", "FOODS"), ("NAMES", "ANIMALS"),
               ("NAMES", "MOODS"), ("OBJECTS", "LOOKS"), ("OBJECTS", "COLOURS"),
               ("OBJECTS", "MATERIALS"), ("NAMES", "HAIR"))
# Of the lessons: how many are not learnt from, how many are drills, the kinds of the others, and how many people they have.
LESSONS_VALID = 300
LESSON_DRILL_SHARE, LESSON_KIND_SHARES = 0.25, (22, 22, 30, 26)
LESSON_PEOPLE = (2, 2, 2, 3)
# How a story is told.
SHORT, PLAIN, WHOLE = "short", "plain", "whole"
SPLITS = ("train", "valid", "test")


class Ranked:
    """Words with weights that fall like Zipf's, so that the vocabulary has a long tail."""

    def __init__(self, ranked):
        self.words = ranked
        self.sums = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(ranked))))


LISTS = {name: Ranked(value) for name, value in vars(words).items() if isinstance(value, list)}
RANKED_TRAITS = {name: Ranked(value) for name, value in words.TRAIT_WORDS.items()}
RANKED_ASPECTS = {name: Ranked(value) for name, value in words.ASPECT_WORDS.items()}
# Looking up is learnt from few words first.
FEW = {name: Ranked(LISTS[name].words[:16]) for name in ("NAMES", "OBJECTS", "PLACES")}


class Dice:
    """All chance. Only random() is called, whose numbers are the same in every Python."""

    def __init__(self, seed):
        self._next = random.Random(seed).random

    def below(self, limit):
        return int(self._next() * limit)

    def chance(self, probability):
        return self._next() < probability

    def choice(self, items):
        return items[self.below(len(items))]

    def shuffled(self, items):
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in items]

    def word(self, ranked):
        return ranked.words[bisect.bisect(ranked.sums, self._next() * ranked.sums[-1])]

    def distinct(self, ranked, count):
        """So many different words."""
        found = []
        while len(found) < count:
            word = self.word(ranked)
            if word not in found:
                found.append(word)
        return found


def capitalised(sentence):
    return sentence[:1].upper() + sentence[1:]


class Question:
    """A fact and the direction that it is asked in."""

    def __init__(self, relation, key, value, inverse):
        table = words.RELATIONS[relation]
        self.kind = table.inverse_kind if inverse else table.kind
        self.fact = (relation, key)
        self.slots = {"k": key, "v": value}
        self.answer = key if inverse else value
        self.asked = table.inverse if inverse else table.ask
        self.full = table.tell
        self.short = table.inverse_short if inverse else table.short


class Story:
    """People, the facts about them, and the text so far. Facts change as the story goes on."""

    def __init__(self, dice, n_people):
        self.dice = dice
        self.skeleton = []  # templates and words of all that is told, but for fillers and dialogue
        self.parts = []
        self.facts = {}  # (relation, key) -> value
        self.things = {}  # thing -> how it is introduced
        self.items = ""
        self.people = self.draw(LISTS["NAMES"], n_people)

    def draw(self, ranked, count):
        """Different words that become part of the skeleton."""
        found = self.dice.distinct(ranked, count)
        self.skeleton += found
        return found

    def number(self, limit):
        """From 1 to `limit`, part of the skeleton."""
        value = 1 + self.dice.below(limit)
        self.skeleton.append(words.NUMBERS[value])
        return value

    def template(self, templates):
        """One of these strings, part of the skeleton; also for choices other than templates."""
        found = self.dice.choice(templates)
        self.skeleton.append(found)
        return found

    def counted(self, number):
        """The noun after a number."""
        return self.items[:-1] if number == 1 else self.items

    # What people are at the start: each method gives a predicate for each person.

    def traits(self):
        name = self.template(tuple(words.TRAITS))
        values = self.draw(RANKED_TRAITS[name], len(self.people))
        return [self.predicate(name, person, value) for person, value in zip(self.people, values)]

    def belongings(self):
        found = []
        for person, thing in zip(self.people, self.new_things()):
            self.facts["owner", thing] = person
            found.append(self.template(words.RELATIONS["owner"].predicates).format(
                thing="a " + self.things[thing]))
        return found

    def whereabouts(self):
        places = self.draw(LISTS["PLACES"], len(self.people))
        return [self.predicate("place", person, place)
                for person, place in zip(self.people, places)]

    def storages(self):
        things = self.new_things()
        places = self.draw(LISTS["PLACES"], len(things))
        return [self.predicate("storage", thing, place) for thing, place in zip(things, places)]

    def counts(self):
        self.items = self.draw(LISTS["ITEMS"], 1)[0]
        limit = 5 if self.dice.chance(0.9) else 9
        return [self.predicate("count", person, self.number(limit)) for person in self.people]

    def new_things(self):
        """A thing for each person, all with the same aspect in different values."""
        aspect = self.template(words.ASPECT_CHOICES)
        things = self.draw(LISTS["OBJECTS"], len(self.people))
        for thing, value in zip(things, self.draw(RANKED_ASPECTS[aspect], len(things))):
            self.facts[aspect, thing] = value
            self.things[thing] = words.THING.get(aspect, "{v} {k}").format(k=thing, v=value)
        return things

    def predicate(self, relation, key, value):
        """Makes a fact and tells what to say of the person behind it."""
        self.facts[relation, key] = value
        text = self.template(words.RELATIONS[relation].predicates)
        if relation == "count":
            return text.format(v=words.NUMBERS[value], items=self.counted(value))
        return text.format(v=value, thing="a " + self.things[key] if key in self.things else "")

    # What happens.

    def hand_over(self):
        thing = self.template(tuple(self.things))
        giver = self.facts["owner", thing]
        receiver = self.template([person for person in self.people if person != giver])
        self.facts["owner", thing] = receiver
        self.tell(self.template(words.HAND_OVERS), g=giver, r=receiver, k=thing)

    def move(self):
        person = self.template(self.people)
        self.facts["place", person] = place = self.new_place()
        self.tell(self.template(words.MOVES), p=person, v=place)

    def remove(self):
        thing = self.template(tuple(self.things))
        self.facts["storage", thing] = place = self.new_place()
        self.tell(self.template(words.REMOVALS), p=self.template(self.people), k=thing, v=place)

    def new_place(self):
        place = self.draw(LISTS["PLACES"], 1)[0]
        return self.new_place() if place in self.facts.values() else place

    def count_change(self):
        """One person gets or loses something, or gives it to another; nobody is left with none."""
        giver = self.template(self.people)
        receiver = self.template([person for person in self.people if person != giver])
        had = self.facts["count", giver]
        way = self.template(("gain", "loss", "share") if had > 1 else ("gain",))
        number = self.number(3 if way == "gain" else min(3, had - 1))
        self.facts["count", giver] += number if way == "gain" else -number
        if way == "share":
            self.facts["count", receiver] += number
        self.tell(self.template(words.COUNT_CHANGES[way]), p=giver, g=giver, r=receiver,
                  d=words.NUMBERS[number], items=self.counted(number),
                  friend=self.dice.word(LISTS["FRIENDS"]))

    # What is written.

    def tell(self, template, **slots):
        """An event, with a connective before it."""
        self.parts.append(f"{self.template(words.CONNECTIVES)} {template.format(**slots)}. ")

    def introduce(self, first, second=(), openings=words.OPENINGS):
        """The opening and the people, in any order, by one or two predicates each."""
        self.free(openings)
        order = self.dice.shuffled(range(len(self.people)))
        for i in order:
            templates = words.INTROS if second else words.SINGLE_INTROS
            # Only the plain template goes on after an opening with a comma.
            template = templates[0] if i == order[0] else self.template(templates)
            self.parts.append(template.format(p=self.people[i], one=first[i],
                                              two=second[i] if second else ""))
        self.skeleton.append(str(order))

    def free(self, templates):
        """A sentence that nothing is asked about."""
        word = self.dice.word
        self.parts.append(self.dice.choice(templates).format(
            weather=word(LISTS["WEATHER"]), time=word(LISTS["TIMES"]), month=word(LISTS["MONTHS"]),
            scene=word(LISTS["SCENERY"]), filler=word(LISTS["FILLER"]), adv=word(LISTS["ADVERBS"]),
            animal=word(LISTS["ANIMALS"]), food=word(LISTS["FOODS"]), sound=word(LISTS["SOUNDS"]),
            taste=word(LISTS["TASTES"]), friend=word(LISTS["FRIENDS"])))

    def questions(self):
        """All that can be asked now; about a value only if one key alone has it."""
        holders = collections.Counter((relation, value)
                                      for (relation, _), value in self.facts.items())
        found = []
        for (relation, key), value in self.facts.items():
            found.append(Question(relation, key, value, False))
            if words.RELATIONS[relation].inverse and holders[relation, value] == 1:
                found.append(Question(relation, key, value, True))
        return found

    def ask(self, question):
        """Its text and the slots of its answers."""
        slots = dict(question.slots, all_items=self.items, x=question.answer)
        if isinstance(slots["v"], int):
            word = words.NUMBERS[slots["v"]]
            slots.update(v=word, x=word, items=self.counted(slots["v"]))
        return self.dice.choice(question.asked).format(**slots), slots

    def speakers(self, question):
        """Two that the question is not about."""
        role = ["the " + friend for friend in self.dice.distinct(LISTS["FRIENDS"], 2)]
        others = [person for person in self.people if person not in question.slots.values()]
        return self.dice.shuffled((others[:1] + role)[:2])

    def talk(self, question):
        """Somebody asks and hears the answer, or is told the fact without asking."""
        dice = self.dice
        ask, slots = self.ask(question)
        speaker, teller = self.speakers(question)
        asked = dice.chance(0.75)
        answers = question.short if asked and dice.chance(0.5) else question.full
        answer = dice.choice(answers).format(**slots)
        template = dice.choice(words.DIALOGUES if asked else words.RESTATEMENTS)
        if answers is question.short and "{tell_low}" in template:
            template = words.DIALOGUES[0]
        self.parts.append(capitalised(template.format(
            ask=ask, tell=capitalised(answer), tell_low=answer, s=speaker, t=teller,
            adv=dice.word(LISTS["ADVERBS"]))))


# The shapes of stories: what people are introduced by, what happens, and how often (percent) a
# shape is chosen for each kind of question.
Shape = collections.namedtuple("Shape", "first second event recall who where count")
SHAPES = (
    Shape(Story.traits, Story.belongings, None, recall=45, who=35, where=0, count=0),
    Shape(Story.belongings, None, Story.hand_over, recall=20, who=50, where=0, count=0),
    Shape(Story.whereabouts, Story.traits, Story.move, recall=10, who=15, where=40, count=0),
    Shape(Story.storages, None, Story.remove, recall=25, who=0, where=60, count=0),
    Shape(Story.counts, None, Story.count_change, recall=0, who=0, where=0, count=100),
)


def pick_by_share(dice, shares):
    """The index of one of the shares, as often as it says in percent."""
    at = dice.below(sum(shares))
    return bisect.bisect(list(itertools.accumulate(shares)), at)


def with_articles(text):
    """"an" where the next word starts with the sound of a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeio]|u(?!k|s)|hour|honest)", r"\1n ", text)


def body(story, shape, question_kind):
    """Dialogue and filler around what happens; the final question."""
    dice = story.dice
    if shape.event:
        if dice.chance(0.15):
            story.talk(dice.choice(story.questions()))
        for _ in range(2 if dice.chance(0.15) else 1):
            shape.event(story)
    question = dice.choice([found for found in story.questions() if found.kind == question_kind])
    talked = {question.fact}
    for probability in (0.6, 0.3):
        if dice.chance(0.25):
            story.free(words.FILLERS)
        if dice.chance(probability):
            # Now and then it is what the question will be about, else dialogue would rule it out.
            others = [other for other in story.questions() if other.fact not in talked]
            topic = dice.choice(others) if others and dice.chance(0.85) else question
            talked.add(topic.fact)
            story.talk(topic)
    return question


def tell_story(dice, kind, form, n_people, n_quiz=8):
    """A story with a question of this kind: text, text of a quiz (of fewer than `n_quiz` questions)
    before the question, answer and skeleton. A short one is an introduction by one predicate each,
    a plain one has two or something happens; only a whole one has dialogue and filler."""
    shape = SHAPES[pick_by_share(dice, [getattr(shape, kind) for shape in SHAPES])]
    story = Story(dice, n_people)
    first = shape.first(story)
    second = shape.second(story) if shape.second and form != SHORT else ()
    if second and dice.chance(0.3):
        first, second = second, first
    story.introduce(first, second, words.OPENINGS if form == WHOLE else SHORT_OPENINGS)
    if form == WHOLE:
        question = body(story, shape, kind)
    else:
        for _ in range((1 + dice.below(2)) if form == PLAIN and shape.event else 0):
            shape.event(story)
        question = dice.choice(story.questions())
    asked = {question.fact}
    quiz = ""
    for other in dice.shuffled(story.questions())[:1 + dice.below(n_quiz)]:
        if other.fact not in asked:
            asked.add(other.fact)
            ask, slots = story.ask(other)
            quiz += f"Question: {ask} {slots['x']} "
    ask, slots = story.ask(question)
    told = with_articles("".join(story.parts))
    return (told, with_articles(quiz), with_articles(f"Question: {ask} {slots['x']}"),
            slots["x"], "\n".join(story.skeleton))


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
        kind = tuple(KIND_SHARES)[pick_by_share(dice, list(KIND_SHARES.values()))]
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


def write_all(folder, splits, lessons, vocabulary):
    for name, stories in splits.items():
        write_lines(folder / f"{name}.txt", (story["text"] for story in stories))
        if name != "train":
            write_lines(folder / f"{name}.jsonl", map(json.dumps, stories))
    write_lines(folder / "lessons-valid.txt", lessons[:LESSONS_VALID])
    write_lines(folder / "lessons.txt", lessons[LESSONS_VALID:])
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
            raise argparse.ArgumentTypeError(f"wanted {low} to {high}, found {text!r}")
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
    lesson_dice = Dice(args.seed + 2**32)
    lessons = [make_lesson(lesson_dice) for _ in range(max(LESSONS_VALID + 1, args.train))]
    try:
        vocabulary = make_vocabulary(
            splits, [word for ranked in LISTS.values() for word in ranked.words], args.n_vocab)
    except ValueError as error:
        parser.error(str(error))
    try:
        write_all(args.outdir, splits, lessons, vocabulary)
    except OSError as error:
        sys.exit(f"demo_stories.py: {error}")
    print_summary(splits)


if __name__ == "__main__":
    sys.exit(main())
