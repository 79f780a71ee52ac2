"""Token ids in, token ids out. The engine knows no text, no conversation and no person: a request is all it has.

`generation.py` is one request, start to end; `worker.py` is the one thread that owns the model and the queue before
it; `forward.py` says what is asked of a model, `packed`, `llama.py` and `transformers_forward.py` are three ways to
answer; `prefix_cache.py` keeps what a prompt's beginning cost; `lookup.py` guesses ahead; `sampling.py` chooses.
"""

from chat.engine.events import Event, Finished, Prefilling, Queued, TokensChosen
from chat.engine.prefix_cache import PrefixCache
from chat.engine.worker import MAX_RUNNING, Engine

__all__ = ["MAX_RUNNING", "Engine", "Event", "Finished", "Prefilling", "PrefixCache", "Queued", "TokensChosen"]
