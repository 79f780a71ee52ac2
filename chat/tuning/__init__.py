"""Post-training of the default model: the conversations it is shown, the training, and the held-out evaluation.

This is the one time that weights move: once, by Marginalia's makers, before anybody chats. Nothing here runs in a chat.
"""
