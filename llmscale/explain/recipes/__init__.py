"""One recipe (an optimizer, an architecture, a text) against another: how much compute it needs for
the same loss, now and further out."""
