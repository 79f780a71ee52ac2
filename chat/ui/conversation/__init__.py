"""The page “Chat”."""
