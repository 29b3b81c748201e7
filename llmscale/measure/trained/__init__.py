"""What is done with a trained model: found, read, and used."""
