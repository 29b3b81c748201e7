"""`python -m llmscale` is `llmscale`."""

import os
import sys

# Python has put the current folder first into the places to import from. It may hold a
# statistics.py of anybody's.
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from llmscale.commands import app

app(prog_name="llmscale")
