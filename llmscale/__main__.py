"""`python -m llmscale` is `llmscale`."""

from llmscale.commands import app

app(prog_name="llmscale")
