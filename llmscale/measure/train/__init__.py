"""Training one run: the loop, its batches, evaluation, checkpoints, and the process it runs in."""
