"""Weights: find, fetch, verify and load them, and prove with a fingerprint that they did not move.

Only safetensors files are read, which hold numbers and no code, and no model may bring code of its own.
Nothing goes over the network but the default model's first download and a hub id that the user asked for by name.
"""

from chat.weights.default_model import BASE, BUNDLED, TUNED, Bundled, ensure_unpacked
from chat.weights.fingerprint import Fingerprint, TensorDigest, changed_parameters, fingerprint
from chat.weights.load import LoadedModel, load_model
from chat.weights.progress import Report

__all__ = [
    "BASE",
    "BUNDLED",
    "TUNED",
    "Bundled",
    "Fingerprint",
    "LoadedModel",
    "Report",
    "TensorDigest",
    "changed_parameters",
    "ensure_unpacked",
    "fingerprint",
    "load_model",
]
