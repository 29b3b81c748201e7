"""From a table of runs to a law, a forecast and figures, without torch."""
