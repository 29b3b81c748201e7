"""From a source of text to a token store: files read, cleaned, split, tokenized, kept."""
