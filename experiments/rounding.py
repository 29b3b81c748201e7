"""What rounding costs: the loss of each model in few bits above its loss as it was kept.

llmscale sweep --sizes 10k,20k,40k,80k --tokens 40k,80k,160k --data stdlib --tokenizer bpe:300 \\
  --context 64 --validation-tokens 20k --workers 2 --out results/small
llmscale quantize results/small --bits 8,6,5,4,3,2 --out results/quantized
python experiments/rounding.py results/quantized results/quantized/figures/rounding.png"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

runs = pd.read_parquet(f"{sys.argv[1]}/runs.parquet")
kept = runs[runs["bits"] == runs["bits"].max()].set_index("parent")["loss"]
few = runs[runs["bits"] < runs["bits"].max()].copy()
few["cost"] = few["loss"] - few["parent"].map(kept)
figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
# In 8 bits the cost is at most 0.0005 nats, of either sign: a logarithm has no place for it.
for panel, by, name in ((panels[0], "params", "N"), (panels[1], "tokens", "D")):
    for place, (value, group) in enumerate(few[few["bits"] < 8].groupby(by)):
        mean = group.groupby("bits")["cost"].mean()
        panel.plot(
            mean.index,
            mean,
            "o-",
            color=plt.cm.viridis(0.2 * place),
            ms=4,
            label=f"{name} = {value / 1000:.0f}k",
        )
    panel.set(yscale="log", xticks=range(2, 7), xlabel="Bits of a weight (group of at most 32)")
    panel.legend(frameon=False, fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
panels[0].set(ylabel="Loss above the unrounded model (nats)", title="By size, mean over budgets")
panels[1].set(title="By tokens, mean over sizes")
figure.savefig(sys.argv[2], dpi=150)
