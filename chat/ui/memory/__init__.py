"""The page “Memory”, and how a note is shown and changed wherever it stands."""
