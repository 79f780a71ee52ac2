"""The page “Costs”."""
