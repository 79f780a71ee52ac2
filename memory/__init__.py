"""Conversations, notes and receipts on disk. Knows no model and no page."""
