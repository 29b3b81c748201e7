"""The table of runs and the results folder: where training and analysis meet."""
