"""Whole training steps on a CUDA device that is not there, on any machine with a C++ compiler."""
