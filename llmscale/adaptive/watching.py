"""Who watches the sweeps of a loop: the watcher of the loop, next to one who looks at the cost."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from llmscale.errors import Note
from llmscale.measure.sweep.watching import Watcher

if TYPE_CHECKING:
    from llmscale.measure.executors import Event
    from llmscale.measure.sweep.plan import Plan
    from llmscale.measure.text.prepare import Progress, TokenStore
    from llmscale.runs.results_folder import ResultsFolder


class TooDear(Exception):  # noqa: N818 - the loop then chooses anew
    """A sweep costs more `flops` than are left; nothing was written yet."""

    def __init__(self, flops: float) -> None:
        super().__init__(f"{flops:.3g} FLOPs")
        self.flops = flops


class Within(Watcher):
    """Passes on to `inner`, and raises TooDear for a plan of more than `most` FLOPs."""

    def __init__(self, inner: Watcher, most: float) -> None:
        self._inner, self._most = inner, most

    def tell(self, text: str) -> None:
        """Passed on."""
        self._inner.tell(text)

    def warn(self, note: Note | str) -> None:
        """Passed on."""
        self._inner.warn(note)

    def warn_all(self, notes: Sequence[Note]) -> None:
        """Passed on."""
        self._inner.warn_all(notes)

    def preparing(self) -> "AbstractContextManager[Callable[[Progress], None]]":
        """As `inner` shows it."""
        return self._inner.preparing()

    def planned(self, plan: "Plan", store: "TokenStore", where: str) -> None:
        """Passed on, if the plan is not too dear."""
        if plan.flops > self._most:
            raise TooDear(plan.flops)
        self._inner.planned(plan, store, where)

    def may_start(self, problem: str) -> bool:
        """As `inner` answers."""
        return self._inner.may_start(problem)

    def training(
        self, plan: "Plan", folder: "ResultsFolder"
    ) -> "AbstractContextManager[Callable[[Event], object]]":
        """As `inner` shows it."""
        return self._inner.training(plan, folder)
