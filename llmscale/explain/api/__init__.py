"""What commands and notebooks call: fit a table, predict from a fit, draw it."""
