"""How fast cleaning is, a step at a time and all together on one core, and on several; and how well
near duplicates are found.

    python benchmarks/clean_text.py [speed] [cores] [recall] [--text SOURCE]

Speed is measured in CPU seconds of this process on text that is in memory already, the best of
three, each beginning with an empty memory for words; `words` is what several steps share. On
several cores it is measured in seconds on the clock, the start of processes left out. Recall
plants copies of documents with a share of the words changed, next to all others of the text, and
compares with what the theory says of their likeness (Jaccard of 5-grams)."""

import argparse
import random
import time
from collections.abc import Callable, Sequence

import numpy as np

from llmscale.machine import available_cores
from llmscale.measure.text import words
from llmscale.measure.text.clean import Judge, Rewrite, Step, open_steps
from llmscale.measure.text.cleaner import Cleaner
from llmscale.measure.text.cleaning_in_order import cleaning_processes
from llmscale.measure.text.documents import BATCH_CHARACTERS
from llmscale.measure.text.sources import open_source
from llmscale.measure.text.spec import Cleaning
from llmscale.measure.text.words import Words

STEPS = (
    "boilerplate",
    "personal-data",
    "gopher-quality",
    "gopher-repetition",
    "language:en",
    "near-duplicates",
)
ROUNDS = 3
CHANGED = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"speed": measure_speed, "cores": measure_cores, "recall": measure_recall}
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(parts)}; default: all")
    parser.add_argument("--text", default="stdlib", help="as --data of llmscale")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(parts):
        parser.error(f"no part is named {', '.join(unknown)}; choose from {', '.join(parts)}")
    batches = read(asked.text)
    for name in asked.parts or parts:
        parts[name](batches)


def read(name: str) -> list[list[str]]:
    """The documents of a text, in batches as cleaning has them."""
    source = open_source(name)
    batches: list[list[str]] = [[]]
    characters = 0
    for shard in range(len(source.shards)):
        for text in source.documents(shard):
            batches[-1].append(text)
            characters += len(text)
            if characters >= BATCH_CHARACTERS:
                batches.append([])
                characters = 0
    return batches


def measure_speed(batches: list[list[str]]) -> None:
    """MB a second and core of each step, and of all."""
    size = sum(len(text.encode()) for batch in batches for text in batch) / 1e6
    print(f"{size:.1f} MB in {sum(map(len, batches)):,} documents; MB a second and core:")

    def show(name: str, work: Callable[[], object]) -> None:
        print(f"  {name:<20} {size / fastest(work):6.1f}")

    show("words", lambda: [Words(batch) for batch in batches])
    for step in open_steps(STEPS):
        made = None if isinstance(step, Rewrite) else [Words(batch) for batch in batches]
        show(step.name, lambda step=step, made=made: taken(step, batches, made))  # type: ignore[misc]
    for steps in ((), STEPS):
        cleaning = Cleaning(steps=steps)
        name = "all, and duplicates" if steps else "duplicates only"
        show(name, lambda cleaning=cleaning: cleaned(cleaning, batches))  # type: ignore[misc]


def measure_cores(batches: list[list[str]]) -> None:
    """MB a second of all steps by one process, two, and so on to one a core."""
    size = sum(len(text.encode()) for batch in batches for text in batch) / 1e6
    cleaning = Cleaning(steps=STEPS)
    print(f"all steps, {size:.1f} MB; cores: MB a second on the clock")
    for cores in range(1, available_cores() + 1):
        times = []
        with cleaning_processes(cleaning, cores) as processes:
            for started in [processes.submit([""]) for _ in range(8 * cores)]:
                started.result()
            for _ in range(ROUNDS):
                cleaner, start = Cleaner(cleaning), time.perf_counter()
                for examined in [processes.submit(batch) for batch in batches]:
                    cleaner.keep(examined.result())
                times.append(time.perf_counter() - start)
        print(f"  {cores:<20} {size / min(times):6.1f}")


def fastest(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest of some rounds."""
    times = []
    for _ in range(ROUNDS):
        words._KNOWN.clear()
        words._KNOWN._begin()
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def taken(step: Step, batches: list[list[str]], made: list[Words] | None) -> None:
    """One step over all documents."""
    if isinstance(step, Rewrite):
        for batch in batches:
            for text in batch:
                step.rewritten(text)
        return
    for batch_words in made or ():
        if isinstance(step, Judge):
            step.dropped(batch_words)
        else:
            step.marks(batch_words)  # type: ignore[attr-defined]


def cleaned(cleaning: Cleaning, batches: list[list[str]]) -> None:
    """All of it, as preparing text does it."""
    cleaner = Cleaner(cleaning)
    for batch in batches:
        cleaner.clean(batch)


def measure_recall(batches: list[list[str]]) -> None:
    """How many planted near duplicates are dropped, and how many of what is no such."""
    cleaner = Cleaner(Cleaning(steps=("near-duplicates",)))
    kept = [text for batch in batches for text in texts_of(cleaner, batch)]
    rng = random.Random(0)
    originals = rng.sample([text for text in kept if len(text.split()) > 50], 300)
    print("planted among them, by share of words changed: likeness, found, expected")
    for share in CHANGED:
        copies = [changed(text, share, rng) for text in originals]
        likeness = [jaccard(*pair) for pair in zip(originals, copies, strict=True)]
        found = len(copies) - len(texts_of(cleaner, copies, remembered=False))
        expected = float(np.mean([1 - (1 - s**8) ** 14 for s in likeness]))
        print(
            f"  {share:6.1%}  {np.mean(likeness):.2f}  {found / len(copies):6.1%}  {expected:6.1%}"
        )
    print(f"alike by 5-grams, of pairs that were dropped: {precision(batches):.1%} at 0.5 or more")


def texts_of(cleaner: Cleaner, texts: Sequence[str], remembered: bool = True) -> list[str]:
    """What is kept of `texts`; not `remembered`, nothing of it is compared with later."""
    marks = {name: list(seen._sorted) for name, seen in cleaner._marks.items()}
    kept = [document.text for document in cleaner.clean(texts).documents]
    if not remembered:
        for name, parts in marks.items():
            cleaner._marks[name]._sorted = parts
    return kept


def precision(batches: list[list[str]]) -> float:
    """Of documents that are dropped as near duplicates, the share that is like a kept one: Jaccard
    of 5-grams of at least a half, by comparing with all that are kept."""
    cleaner = Cleaner(Cleaning(steps=("near-duplicates",)))
    kept: list[set[tuple[str, ...]]] = []
    lost: list[str] = []
    for batch in batches:
        found = cleaner.clean(batch)
        kept += [fivegrams(document.text) for document in found.documents]
        numbers = set(found.numbers)
        lost += [text for number, text in enumerate(batch) if number not in numbers]
    chosen = random.Random(0).sample(lost, min(100, len(lost)))
    alike = sum(
        max(len(mine & other) / max(1, len(mine | other)) for other in kept) >= 0.5
        for mine in map(fivegrams, chosen)
    )
    return alike / max(1, len(chosen))


def fivegrams(text: str) -> set[tuple[str, ...]]:
    plain = ["".join(filter(str.isalnum, word.lower())) for word in text.split()]
    plain = [word for word in plain if word]
    return {tuple(plain[place : place + 5]) for place in range(max(1, len(plain) - 4))}


def jaccard(one: str, other: str) -> float:
    mine, its = fivegrams(one), fivegrams(other)
    return len(mine & its) / len(mine | its)


def changed(text: str, share: float, rng: random.Random) -> str:
    found = text.split()
    for place in rng.sample(range(len(found)), max(1, round(share * len(found)))):
        found[place] = f"x{rng.randrange(10**6)}"
    return " ".join(found)


if __name__ == "__main__":
    main()
