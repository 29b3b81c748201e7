"""From a law to a plan: what to train with a budget, what it costs, and what may be chosen
instead."""
