"""What commands and notebooks call: read a table of runs, fit it, predict from the fit, draw it."""
