"""`llmscale mixture`: the best shares of the sources that models were trained on."""

from typing import TYPE_CHECKING, Any

from llmscale.commands import output
from llmscale.commands._options import JsonOption, TableArgument, takes_settings
from llmscale.explain import digits
from llmscale.explain.api.settings import MixtureSpec

if TYPE_CHECKING:
    from llmscale.explain.fit.mixtures import BestMixture


@takes_settings(MixtureSpec, leave_out=("holdout", "intervals", "diagnostics", "variable"))
def mixture(
    table: TableArgument = None,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Fit the law of mixtures to the loss on each source, and find the shares at which their mean
    is lowest, at each size and budget of the table.

    Example: llmscale mixture results/mixture --targets code=2,prose=1
    """
    from llmscale.explain.api.mixture import best_mixtures

    found = best_mixtures(table, **settings)
    if json:
        output.print_json({"mixtures": [one.to_json() for one in found]})
    else:
        for one in found:
            _show(one)
        output.show_next(f"train it, with [data.mixtures] {found[-1].table} in the sweep's TOML")
    said = [note for one in found for fit in one.fits.values() for note in fit.notes]
    output.warn_all(tuple(dict.fromkeys(said)), every=notes)


def _show(best: "BestMixture") -> None:
    """The shares of one size and budget, and the law of the loss on each source."""
    loss = digits.number(best.loss)
    if best.loss_interval:
        loss = digits.with_ends(best.loss, *best.loss_interval)
    output.results.say(f"{best.title}:", "bold", f"the mean loss is lowest at {loss}", "bold")
    mean = " + ".join(f"{share:.3g} x loss on {name}" for name, share in best.targets.items())
    tried = ", ".join(f"{share:.3g} {name}" for name, share in best.measured_shares.items())
    output.results.print(f"mean loss: {mean}")
    output.results.print(
        f"lowest of the runs there are: {digits.number(best.measured)}, with shares {tried}"
    )
    table = output.make_table("", "source", "best share", "interval", "law", left=0)
    for name, share in best.shares.items():
        law = best.fits[name].law if name in best.fits else None
        interval = _ends(best.intervals.get(name)).strip()
        table.add_row(name, f"{share:.3f}", interval, str(law).partition("  with ")[2])
    output.results.print(table)
    output.results.print("law of a loss: L = c + k exp(sum of t_NAME x share of NAME)")


def _ends(interval: tuple[float, float] | None) -> str:
    return f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""
