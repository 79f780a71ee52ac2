"""The turn: prompt, encoding, engine, receipt, and the pages that show them."""
