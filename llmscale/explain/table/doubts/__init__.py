"""Whether what was taken for N, D, C and loss can be that."""
