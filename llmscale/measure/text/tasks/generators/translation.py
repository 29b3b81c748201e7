"""Translation: sentences of a made language into another, with its word order and agreement."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from llmscale.measure.text.tasks.generators import Generator, pick

_NOUNS = {
    "dog": ("kano", "o"),
    "cat": ("mira", "a"),
    "bird": ("pelo", "o"),
    "child": ("nima", "a"),
    "king": ("rego", "o"),
    "queen": ("rega", "a"),
    "farmer": ("tivo", "o"),
    "teacher": ("sola", "a"),
    "horse": ("davo", "o"),
    "river": ("luna", "a"),
    "house": ("kaso", "o"),
    "tree": ("bira", "a"),
}
"""The word of the other language, and the gender that what belongs to it agrees with."""
_ADJECTIVES = {"old": "vet", "small": "pik", "red": "rub", "happy": "gai", "tall": "alt"}
_VERBS = {"see": "vid", "love": "am", "follow": "sek", "find": "trov", "hear": "aud", "help": "jut"}
_ARTICLES = {"the": "l", "a": "un"}
NOUNS, ADJECTIVES, VERBS = tuple(_NOUNS), tuple(_ADJECTIVES), tuple(_VERBS)


class Translation(Generator):
    """English of subject, verb and object becomes subject, object and verb. Adjectives follow their
    noun and take its gender and number, articles do, and verbs take the number of the subject."""

    about: ClassVar[str] = "word order (SVO to SOV), agreement in gender and number, a lexicon"

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """A sentence: 280,000 are different."""
        subject, plural = _phrase(random)
        verb = pick(random, VERBS)
        verb_form = verb if plural else f"{verb}s"
        thing, _ = _phrase(random)
        prompt = f"{subject} {verb_form} {thing} ="
        return {"prompt": prompt, "target": f" {self.solve({'prompt': prompt})}"}

    def solve(self, given: Mapping[str, Any]) -> str:
        """The translation."""
        words = given["prompt"].removesuffix("=").split()
        place = next(at for at, word in enumerate(words) if _is_verb(word))
        subject, plural = _translated(words[:place])
        thing, _ = _translated(words[place + 1 :])
        verb = words[place] if plural else words[place].removesuffix("s")
        return f"{subject} {thing} {_VERBS[verb]}{'en' if plural else 'et'}"


def _phrase(random: np.random.Generator) -> tuple[str, bool]:
    """An article, an adjective or none, and a noun; whether it is of several."""
    plural = bool(random.integers(2))
    noun = pick(random, NOUNS)
    article = "the" if plural else pick(random, ("the", "a"))
    words = [article]
    if random.integers(2):
        words.append(pick(random, ADJECTIVES))
    words.append(_plural(noun) if plural else noun)
    return " ".join(words), plural


def _plural(noun: str) -> str:
    return {"child": "children"}.get(noun, f"{noun}s")


def _is_verb(word: str) -> bool:
    return word in _VERBS or word.removesuffix("s") in _VERBS


def _translated(words: list[str]) -> tuple[str, bool]:
    article, *adjectives, noun = words
    plural = noun not in _NOUNS
    singular = noun
    if plural:
        singular = "child" if noun == "children" else noun.removesuffix("s")
    own, gender = _NOUNS[singular]
    ending = gender + ("s" if plural else "")
    said = [_ARTICLES[article] + ending, own + ("s" if plural else "")]
    said += [_ADJECTIVES[adjective] + ending for adjective in adjectives]
    return " ".join(said), plural
