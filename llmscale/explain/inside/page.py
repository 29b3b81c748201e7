"""One HTML page of a text as a model reads it; it needs no network, and nothing in it is markup."""

import json
import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Final

from llmscale.errors.printable import clean
from llmscale.explain.inside.colours import COLOURS, colour_of
from llmscale.runs.inspection import InspectedToken, Inspection, visible

if TYPE_CHECKING:
    import numpy as np

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto;
 padding: 0 1rem; background: #fff; }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1.05rem; margin-top: 2rem; }}
.text {{ font: 16px/2 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }}
.text span {{ border-radius: 3px; padding: 2px 0; cursor: default; }}
.text span.here {{ outline: 2px solid #0072B2; }}
.muted {{ color: #6e6e6e; }}
#says {{ min-height: 1.5em; position: sticky; top: 0; background: #fff; }}
table {{ border-collapse: collapse; }} td, th {{ padding: 1px 10px 1px 0; text-align: left; }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
.heads {{ display: grid; gap: 8px;
 grid-template-columns: 4.5rem repeat({n_head}, minmax(40px, 1fr)); }}
.heads div {{ align-self: center; font-size: 13px; }}
canvas {{ width: 100%; image-rendering: pixelated; border: 1px solid #ddd; cursor: crosshair; }}
canvas.chosen {{ border-color: #D55E00; box-shadow: 0 0 0 1px #D55E00; }}
.key span {{ padding: 0 8px; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="muted">{facts}</p>
<h2>Loss of each token</h2>
<p class="text">{losses}</p>
<p class="muted key">{key}</p>
<h2>What may come next</h2>
<table>{alternatives}</table>
<h2>Attention</h2>
<p class="muted">Each square is a head: rows are tokens, columns what they attend to, darker is
more. Point at a square for its weights; click it, then point at a token to see where it looks.</p>
<p id="says">&nbsp;</p>
<p class="text" id="looks">{plain}</p>
<div class="heads">{heads}</div>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
_SCRIPT: Final = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const says = document.getElementById('says');
const tokens = Array.from(document.getElementById('looks').children);
const squares = Array.from(document.querySelectorAll('canvas'));
const n = data.tokens.length;
let chosen = squares[0];
const weightsOf = square => data.attention[square.dataset.layer][square.dataset.head];
const nameOf = square =>
  `layer ${+square.dataset.layer + 1}, head ${+square.dataset.head + 1}`;
function paint(square) {
  square.width = square.height = n;
  const pen = square.getContext('2d');
  weightsOf(square).forEach((row, q) => row.forEach((weight, k) => {
    pen.fillStyle = `rgba(8, 81, 156, ${weight / 1000})`;
    pen.fillRect(k, q, 1, 1);
  }));
}
function show(square, q, k) {
  const row = weightsOf(square)[q];
  tokens.forEach((token, place) => {
    const weight = place <= q ? row[place] / 1000 : 0;
    token.style.background = weight ? `rgba(0, 114, 178, ${0.85 * weight})` : '';
    token.className = place === q ? 'here' : '';
  });
  says.textContent = k === null
    ? `${nameOf(square)}: where ${data.tokens[q]} looks`
    : `${nameOf(square)}: ${data.tokens[q]} to ${data.tokens[k]} ${(row[k] / 1000).toFixed(3)}`;
}
function choose(square) {
  chosen.classList.remove('chosen');
  chosen = square;
  chosen.classList.add('chosen');
}
squares.forEach(square => {
  paint(square);
  square.addEventListener('mousemove', event => {
    const box = square.getBoundingClientRect();
    const place = share => Math.min(n - 1, Math.max(0, Math.floor(share * n)));
    const q = place((event.clientY - box.top) / box.height);
    const k = place((event.clientX - box.left) / box.width);
    show(square, q, k <= q ? k : null);
  });
  square.addEventListener('click', () => choose(square));
});
tokens.forEach((token, q) => token.addEventListener('mouseenter', () => show(chosen, q, null)));
choose(chosen);
show(chosen, n - 1, null);
"""


def page(found: Inspection) -> str:
    """The page as text."""
    mean = "" if found.loss is None else f", {found.loss:.3f} nats a token"
    n_layer, n_head, *_ = found.attention.shape
    last = found.tokens[-1]
    return _PAGE.format(
        title=_text(f"Model {found.size}, run {found.run_id}"),
        facts=_text(
            f"{len(found.tokens)} tokens{mean}; a guess has {math.log(found.vocab_size):.2f}. "
            f"{n_layer} layers of {n_head} heads."
        ),
        losses="".join(_coloured(token, found.vocab_size) for token in found.tokens),
        key=_key(found.vocab_size),
        alternatives="".join(
            f'<tr><td>{_text(visible(one.text))}</td><td class="n">{one.probability:.1%}</td></tr>'
            for one in last.next
        ),
        plain="".join(f"<span>{_text(token.text)}</span>" for token in found.tokens),
        heads="".join(_heads(n_layer, n_head)),
        n_head=n_head,
        data=_data(found),
        script=_SCRIPT,
    )


def _coloured(token: InspectedToken, vocab_size: int) -> str:
    likeliest = ", ".join(f"{visible(one.text)} {one.probability:.1%}" for one in token.next)
    then = f"then: {likeliest}"
    if token.loss is None:
        return f'<span title="{_text(then)}">{_text(token.text)}</span>'
    said = f"{token.loss:.2f} nats, {math.exp(-token.loss):.2%}, place {token.rank:,}; {then}"
    colour = colour_of(token.loss, vocab_size)
    return f'<span style="background:{colour}" title="{_text(said)}">{_text(token.text)}</span>'


def _key(vocab_size: int) -> str:
    """Which losses have which colours."""
    step = math.log(max(2, vocab_size)) / len(COLOURS)
    spans = [
        f'<span style="background:{colour}">{place * step:.1f}+</span>'
        for place, colour in enumerate(COLOURS)
    ]
    return f"nats: {''.join(spans)}"


def _heads(n_layer: int, n_head: int) -> Iterator[str]:
    yield "<div></div>"
    yield from (f"<div>head {head + 1}</div>" for head in range(n_head))
    for layer in range(n_layer):
        yield f"<div>layer {layer + 1}</div>"
        for head in range(n_head):
            yield f'<canvas data-layer="{layer}" data-head="{head}"></canvas>'


def _data(found: Inspection) -> str:
    """Thousandths of the weights, of each row up to its own position."""
    thousandths = (found.attention * 1000).round().astype(int)
    rows = [list(map(_up_to_own, layer)) for layer in thousandths]
    tokens = [f"\u201c{clean(label)}\u201d" for label in found.labels]
    text = json.dumps({"tokens": tokens, "attention": rows}, separators=(",", ":"))
    # Nothing within may end the script that holds it.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _up_to_own(weights_TT: "np.ndarray") -> list[list[int]]:
    return [row[: place + 1].tolist() for place, row in enumerate(weights_TT)]


def _text(text: str) -> str:
    return escape(clean(text))
