"""Dialogue: slot filling. A guest books a table over several turns, and changes their mind."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from llmscale.measure.text.tasks.generators import Generator, pick

SLOTS: dict[str, tuple[str, ...]] = {
    "food": ("pizza", "sushi", "curry", "tapas", "noodles", "soup"),
    "people": ("two", "three", "four", "five", "six", "seven"),
    "day": ("monday", "tuesday", "friday", "saturday", "sunday"),
    "hour": ("noon", "one", "eight", "nine", "ten"),
}
SAID = {"food": "we want {}", "people": "we are {}", "day": "on {}", "hour": "at {}"}
ASKED = {
    "food": "what would you like to eat ?",
    "people": "how many are you ?",
    "day": "which day ?",
    "hour": "what time ?",
}


class Dialogue(Generator):
    """The assistant asks for what is missing, in the order of the slots, and confirms all of it
    once it is there. A guest may correct what was said before: the last word counts."""

    about: ClassVar[str] = "what is known and what is missing, over several turns"

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """A conversation up to its confirmation."""
        known: dict[str, str] = {}
        turns: list[dict[str, str]] = []
        first = [slot for slot in SLOTS if random.integers(2)]
        said = [_said(slot, known, random) for slot in first]
        turns.append(_turn("user", f"hello , a table please . {' '.join(said)}".strip()))
        while True:
            answer = self.solve({"messages": turns})
            turns.append(_turn("assistant", answer))
            missing = next((slot for slot in SLOTS if ASKED[slot] == answer), None)
            if missing is None:
                return {"messages": turns}
            said = [_said(missing, known, random)]
            others = [slot for slot in known if slot != missing]
            if others and not random.integers(3):
                said.append(f"no , {_said(pick(random, others), known, random)}")
            turns.append(_turn("user", " ".join(said)))

    def solve(self, given: Mapping[str, Any]) -> str:
        """What the assistant says next."""
        known = {}
        for turn in given["messages"]:
            if turn["role"] != "user":
                continue
            words = turn["content"].split()
            for before, word in pairwise(words):
                for slot, form in SAID.items():
                    if form.split()[-2] == before and word in SLOTS[slot]:
                        known[slot] = word
        for slot in SLOTS:
            if slot not in known:
                return ASKED[slot]
        return "booked : {food} for {people} on {day} at {hour} .".format(**known)


def _said(slot: str, known: dict[str, str], random: np.random.Generator) -> str:
    """A guest's words for a slot, which is another than the one that is `known`."""
    known[slot] = pick(random, [value for value in SLOTS[slot] if value != known.get(slot)])
    return f"{SAID[slot].format(known[slot])} ."


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
