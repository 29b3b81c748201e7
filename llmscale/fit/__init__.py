"""Fit laws to a table of runs, with intervals that say what they rest on."""
