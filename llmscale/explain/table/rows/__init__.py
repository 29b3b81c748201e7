"""Which rows are runs: finished ones, each once, that the filters let through."""
