"""Models as other programs read and write them: `llmscale export` and `llmscale import`."""
