"""The page “Under glass”: one turn, from every side. Each tab is a room of its own; the numbers are the receipt's."""
