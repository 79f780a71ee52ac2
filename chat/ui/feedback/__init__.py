"""The page “Feedback”, and the thumbs that lead there."""
