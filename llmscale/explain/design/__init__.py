"""Which runs to measure next: optimal design over the laws that are plausible."""
