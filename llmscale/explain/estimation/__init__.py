"""The numerics of a fit: the objective, its solver, intervals, profiles, and the result."""
