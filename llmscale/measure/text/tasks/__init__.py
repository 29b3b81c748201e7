"""Text that asks for an answer: what a model is fine-tuned on and asked afterwards."""
