"""What goes on inside a trained model."""
