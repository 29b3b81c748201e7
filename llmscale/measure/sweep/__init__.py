"""A sweep: its specification, its plan of runs with their cost, and carrying it out."""
