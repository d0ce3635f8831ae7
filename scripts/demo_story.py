"""A story of the demo model: people, the facts about them, what happens, and questions that the text
answers. Imported by demo_stories.py."""
import bisect
import collections
import itertools
import random
import re

import demo_words as words

# How a story is told.
SHORT, PLAIN, WHOLE = "short", "plain", "whole"
SHORT_OPENINGS = ("Now ", "Today ", "Here ")
# Of whole stories: those in which no two people have facts of one kind. In the others a value has to
# be told from another person's of the same kind.
OWN_SHARE = 0.85


class Ranked:
    """Words with weights that fall like Zipf's, so that the vocabulary has a long tail."""

    def __init__(self, ranked):
        self.words = ranked
        self.sums = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(ranked))))


LISTS = {name: Ranked(value) for name, value in vars(words).items() if isinstance(value, list)}
RANKED_TRAITS = {name: Ranked(value) for name, value in words.TRAIT_WORDS.items()}
RANKED_ASPECTS = {name: Ranked(value) for name, value in words.ASPECT_WORDS.items()}


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

    def traits(self, people):
        return self.trait(people, self.template(tuple(words.TRAITS)))

    def trait(self, people, name):
        values = self.draw(RANKED_TRAITS[name], len(people))
        return [self.predicate(name, person, value) for person, value in zip(people, values)]

    def belongings(self, people):
        found = []
        for person, thing in zip(people, self.new_things(people)):
            self.facts["owner", thing] = person
            found.append(self.template(words.RELATIONS["owner"].predicates).format(
                thing="a " + self.things[thing]))
        return found

    def whereabouts(self, people):
        places = self.draw(LISTS["PLACES"], len(people))
        return [self.predicate("place", person, place) for person, place in zip(people, places)]

    def storages(self, people):
        things = self.new_things(people)
        places = self.draw(LISTS["PLACES"], len(things))
        return [self.predicate("storage", thing, place) for thing, place in zip(things, places)]

    def counts(self, people):
        self.items = self.draw(LISTS["ITEMS"], 1)[0]
        limit = 5 if self.dice.chance(0.9) else 9
        return [self.predicate("count", person, self.number(limit)) for person in people]

    def new_things(self, people):
        """A thing for each person, all with the same aspect in different values."""
        aspect = self.template(words.ASPECT_CHOICES)
        things = self.draw(LISTS["OBJECTS"], len(people))
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
        person = self.template(self.keys_of("place"))
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
        giver = self.template(self.keys_of("count"))
        others = [person for person in self.keys_of("count") if person != giver]
        receiver = self.template(others) if others else ""
        had = self.facts["count", giver]
        ways = ("gain", "loss", "share")[:(3 if others else 2) if had > 1 else 1]
        way = self.template(ways)
        number = self.number(3 if way == "gain" else min(3, had - 1))
        self.facts["count", giver] += number if way == "gain" else -number
        if way == "share":
            self.facts["count", receiver] += number
        self.tell(self.template(words.COUNT_CHANGES[way]), p=giver, g=giver, r=receiver,
                  d=words.NUMBERS[number], items=self.counted(number),
                  friend=self.dice.word(LISTS["FRIENDS"]))

    def keys_of(self, relation):
        """Whom or what there are such facts about, people in their order."""
        return [key for found, key in self.facts if found == relation]

    # What is written.

    def tell(self, template, **slots):
        """An event, with a connective before it."""
        self.parts.append(f"{self.template(words.CONNECTIVES)} {template.format(**slots)}. ")

    def introduce(self, first, second=(), openings=words.OPENINGS):
        """The opening and the people, in any order, by one or two predicates each (the second may
        be empty)."""
        self.free(openings)
        order = self.dice.shuffled(range(len(self.people)))
        for i in order:
            templates = words.INTROS if second and second[i] else words.SINGLE_INTROS
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


# Stories in which every person has facts of other kinds than the others: what is told of one, and
# what may happen then. Things and places are told of one person only.
OWN_FACTS = {"thing": Story.belongings, "stored": Story.storages, "place": Story.whereabouts,
             "count": Story.counts}
OWN_EVENTS = {"thing": Story.hand_over, "stored": Story.remove, "place": Story.move,
              "count": Story.count_change}
OWN_RIVALS = {"thing": ("stored",), "stored": ("thing", "place"), "place": ("stored",)}
OWN_NEEDED = {"recall": ("thing", "trait", "trait"), "who": ("thing", "place", "trait", "trait"),
              "where": ("place", "stored"), "count": ("count",)}


def own_facts(story, question_kind):
    """One or two predicates for each person, no two of a kind, and what may happen (or None)."""
    dice = story.dice
    traits = dice.shuffled(words.TRAITS)
    needed = dice.choice(OWN_NEEDED[question_kind])
    chosen = [traits[0] if needed == "trait" else needed]
    has_second = [dice.chance(0.4) for _ in story.people]
    for name in dice.shuffled(list(OWN_FACTS) + traits):
        rivals = OWN_RIVALS.get(name, ()) + (name,)
        if len(chosen) < len(story.people) + sum(has_second) and not set(rivals) & set(chosen):
            chosen.append(name)
    told = dice.shuffled(chosen)
    rows = ([], [])
    for person, two in zip(story.people, has_second):
        for row, wanted in zip(rows, (True, two)):
            name = told.pop() if wanted else ""
            row.append("" if not name else OWN_FACTS[name](story, [person])[0]
                       if name in OWN_FACTS else story.trait([person], name)[0])
    events = [OWN_EVENTS[name] for name in chosen if name in OWN_EVENTS]
    return rows, dice.choice(events) if events and dice.chance(0.5) else None


def body(story, event, question_kind):
    """Dialogue and filler around what happens; the final question."""
    dice = story.dice
    if event:
        if dice.chance(0.15):
            story.talk(dice.choice(story.questions()))
        for _ in range(2 if dice.chance(0.15) else 1):
            event(story)
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
    is_own = form == WHOLE and dice.chance(OWN_SHARE)
    shape = SHAPES[pick_by_share(dice, [getattr(shape, kind) for shape in SHAPES])]
    story = Story(dice, n_people)
    event = shape.event
    if is_own:
        (first, second), event = own_facts(story, kind)
    else:
        first = shape.first(story, story.people)
        second = shape.second(story, story.people) if shape.second and form != SHORT else ()
        if second and dice.chance(0.3):
            first, second = second, first
    story.introduce(first, second, words.OPENINGS if form == WHOLE else SHORT_OPENINGS)
    if form == WHOLE:
        question = body(story, event, kind)
    else:
        for _ in range((1 + dice.below(2)) if form == PLAIN and event else 0):
            event(story)
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
