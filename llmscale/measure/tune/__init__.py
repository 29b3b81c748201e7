"""Finding the learning rate and the batch of each size, and the power laws that they follow."""
