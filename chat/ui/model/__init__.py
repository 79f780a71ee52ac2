"""The page “Model”: the card, the trained artifact, what it can know, and the same model rounded."""
