"""One HTML page of a law, on which a reader moves a budget and sees what it buys.

Python computes whatever depends on the law, once: the loss on a grid of N and D with the parts of
its interval (`loss_grid`), and the best run of every budget (`frontier`). The page interpolates
between these, so that it is right for every law, one of the user's own too, and computes only what
follows from its sliders. It is one file that asks the network for nothing (`document`)."""
