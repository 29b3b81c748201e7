"""From a file, a stream or a frame to columns of numbers and text."""
