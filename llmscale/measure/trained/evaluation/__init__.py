"""What a trained model is worth: its loss on texts, its scores on tasks, as columns of its run."""
