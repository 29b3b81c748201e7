"""Which column holds which quantity, in what unit, and the numbers that follow."""
