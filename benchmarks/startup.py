"""How long `llmscale --help` takes, against importing typer and rich alone: alternating runs,
medians, their ratio.
"""

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 15
IMPORTS = [sys.executable, "-c", "import typer, rich"]
HELP = [sys.executable, "-m", "llmscale", "--help"]


def main() -> None:
    environment = os.environ | {"NO_COLOR": "1"}
    seconds: dict[str, list[float]] = {"imports": [], "help": []}
    for round_number in range(ROUNDS + 1):
        for name, command in (("imports", IMPORTS), ("help", HELP)):
            start = time.perf_counter()
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            if round_number:  # the first round fills the caches
                seconds[name].append(time.perf_counter() - start)
    imports, shown = (statistics.median(seconds[name]) * 1e3 for name in ("imports", "help"))
    print(
        f"import typer, rich: {imports:.0f} ms; llmscale --help: {shown:.0f} ms; ratio "
        f"{shown / imports:.2f}"
    )


if __name__ == "__main__":
    main()
