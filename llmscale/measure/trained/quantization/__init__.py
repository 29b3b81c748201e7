"""Smaller after training: weights of few bits, and what that costs."""
