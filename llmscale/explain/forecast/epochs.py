"""How much it matters that a run goes over its text more than once."""

from llmscale.notes.kind import Weight
from llmscale.notes.predicting import TEXT_REPEATED

_LITTLE_WORTH = 15.0
"""Past about as many epochs more hardly help: R_D* of Muennighoff et al. (2023) is 15.39."""


def weight_of_epochs(epochs: float) -> Weight:
    """What so many passes over a text are to whoever makes the run: news as long as they are nearly
    worth new text, wrong once more of them hardly help."""
    if epochs <= TEXT_REPEATED.limit:
        return Weight.NEWS
    return Weight.DOUBT if epochs <= _LITTLE_WORTH else Weight.WRONG
