"""The colour of a loss, in a terminal and on a page."""

import math
from typing import Final

# OrRd of ColorBrewer (Brewer 2003): black text can be read on all.
COLOURS: Final = ("#fff7ec", "#fee8c8", "#fdd49e", "#fdbb84", "#fc8d59", "#ef6548")


def colour_of(loss: float, vocab_size: int) -> str:
    """The colour, as #rrggbb: the last one from the loss of a guess on, ln(vocab_size) nats."""
    share = loss / math.log(max(2, vocab_size))
    return COLOURS[min(len(COLOURS) - 1, max(0, int(share * len(COLOURS))))]
