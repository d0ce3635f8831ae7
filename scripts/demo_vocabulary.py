"""The vocabulary of the demo model's stories, in the form of RWKV's World vocabulary: every word with
the space before it is one token. Imported by demo_stories.py."""
import collections
import re


def tokens_of(text):
    """The pieces of a text as the vocabulary's tokens cut it."""
    return re.findall(r" Question:| ?[A-Za-z]+| ?[^A-Za-z\s]+", text)


def word_pieces(tokens):
    """Beginnings and endings of words, 2 to 5 letters, those of the most words first."""
    counts = collections.Counter()
    for word in sorted({token.strip() for token in tokens if token.strip().isalpha()}):
        counts.update({word[:n] for n in range(2, 6)} | {word[-n:] for n in range(2, 6)})
    return sorted(counts, key=lambda piece: (-counts[piece], piece))


def make_vocabulary(splits, words, n_vocab):
    """The tokens from id 1 on: bytes, words, words without space, punctuation, pieces of words."""
    # In alphabetical order: how often words occur changes no id.
    tokens = {token for stories in splits.values() for story in stories
              for token in tokens_of(story["text"])}
    tokens = sorted(tokens | {" " + word for word in words})
    groups = ([], [], [])
    for token in tokens:
        is_word = any(char.isalpha() for char in token)
        groups[2 if not is_word else 0 if token[0] == " " else 1].append(token)
    found = [bytes([byte]) for byte in range(256)]
    found += [token.encode() for group in groups for token in group if len(token) > 1]
    n_needed, known = len(found), set(found)
    found += [piece.encode() for piece in word_pieces(tokens) if piece.encode() not in known]
    if not n_needed < n_vocab <= len(found) + 1:
        raise ValueError(f"--n-vocab: expected {n_needed + 1} to {len(found) + 1} for these "
                         f"stories, found {n_vocab}")
    return found[:n_vocab - 1]


def vocabulary_line(number, token):
    try:
        literal = repr(token.decode())
    except UnicodeDecodeError:
        literal = repr(token)
    return f"{number} {literal} {len(token)}"
