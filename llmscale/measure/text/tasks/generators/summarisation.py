"""Summarisation: the key facts of a made report, in one sentence."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from llmscale.measure.text.tasks.generators import Generator, pick

FIRMS = ("arno", "belta", "corvin", "delmar", "estel", "fjord", "galen", "hexa", "ilva", "jorin")
GOODS = ("chairs", "lamps", "boats", "clocks", "shoes", "pianos", "bikes", "books")
MONTHS = ("january", "march", "april", "june", "july", "august", "october", "december")
CITIES = ("lund", "porto", "graz", "turin", "basel", "ghent")
ASIDES = (
    "the office has {n} rooms .",
    "a visitor came from {city} .",
    "it rained in {city} all week .",
    "the founder was born in {city} .",
    "the roof was painted after {n} years .",
    "lunch was served for {n} guests .",
)


class Summarisation(Generator):
    """Five facts of seven sentences in any order: who sold how many of what, when, and how that
    changed. What else is said has numbers and names, too."""

    about: ClassVar[str] = "which of many facts matter, copied into one sentence"

    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """A report of seven sentences."""
        firm, goods, month = pick(random, FIRMS), pick(random, GOODS), pick(random, MONTHS)
        way, share = pick(random, ("rose", "fell")), int(random.integers(2, 60))
        sold = int(random.integers(10, 1000))
        facts = [
            f"the firm is called {firm} .",
            f"it makes {goods} .",
            f"in {month} it sold {sold} of them .",
            f"sales {way} by {share} percent .",
        ]
        asides = [pick(random, ASIDES) for _ in range(3)]
        facts += [
            aside.format(n=int(random.integers(2, 1000)), city=pick(random, CITIES))
            for aside in asides
        ]
        order = random.permutation(len(facts))
        prompt = f"report : {' '.join(facts[place] for place in order)} summary :"
        return {"prompt": prompt, "target": f" {self.solve({'prompt': prompt})}"}

    def solve(self, given: Mapping[str, Any]) -> str:
        """The summary."""
        text = given["prompt"].removeprefix("report : ").removesuffix(" summary :")
        known = {}
        for sentence in text.removesuffix(" .").split(" . "):
            words = sentence.split()
            if words[:4] == ["the", "firm", "is", "called"]:
                known["firm"] = words[4]
            elif words[:2] == ["it", "makes"]:
                known["goods"] = words[2]
            elif words[0] == "in":
                known["month"], known["sold"] = words[1], words[4]
            elif words[0] == "sales":
                known["change"] = f"{'up' if words[1] == 'rose' else 'down'} {words[3]} percent"
        return "{firm} sold {sold} {goods} in {month} , {change} .".format(**known)
