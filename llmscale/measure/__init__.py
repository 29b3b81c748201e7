"""From text and a list of sizes to a table of runs: the half of llmscale that trains. Only it
imports torch."""
