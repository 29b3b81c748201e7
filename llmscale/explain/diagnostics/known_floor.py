"""Whether a fitted floor is that of the language, if the table says what this is."""

from llmscale.errors import Note
from llmscale.explain import digits
from llmscale.explain.diagnostics.evidence import Evidence
from llmscale.notes.fitting import KNOWN_FLOOR
from llmscale.notes.kind import Weight

_COLUMN = "true_loss"


def known_floor(evidence: Evidence) -> Note | None:
    """The floor of a law in N and D against the loss of the language itself, on the same tokens. A
    law in one of them has a floor that the other one lifts."""
    law, frame = evidence.fit.law, evidence.frame
    if law.floor is None or _COLUMN not in frame or not {"params", "tokens"} <= set(law.inputs):
        return None
    truths = frame[_COLUMN].dropna().unique()
    ends = evidence.fit.intervals.get(law.floor)
    if len(truths) != 1 or ends is None:
        return None
    truth, floor = float(truths[0]), law.coefficients()[law.floor]
    shown = [digits.number(value, *ends) for value in (truth, floor, *ends)]
    said = (
        f"the language of this text itself loses {shown[0]} nats a token on the validation text; "
        f"the floor {law.floor} is {shown[1]}, {100 * evidence.fit.level:g}% interval {shown[2]} "
        f"to {shown[3]}"
    )
    if ends[0] <= truth <= ends[1]:
        return KNOWN_FLOOR.note(f"{said}, which holds it")
    return KNOWN_FLOOR.note(f"{said}, which does not hold it", Weight.WRONG)
