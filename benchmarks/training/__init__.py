"""What benchmarks/train.py measures: our training loop and sweep, and nanoGPT's."""
