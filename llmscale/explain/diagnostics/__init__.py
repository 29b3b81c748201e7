"""What is worth knowing about a fit: what its runs cannot tell, and how they were made."""
