"""How often each kind of conversation comes, and how often their wordings have what makes them harder."""

from __future__ import annotations

from chat.tuning.acts import Kind

SHARES: dict[Kind, float] = {
    "told": 0.06,
    "corrected": 0.11,
    "noted": 0.10,
    "note corrected": 0.08,
    "distracted": 0.05,
    "two of a shape": 0.05,
    "both corrected": 0.07,
    "fresh": 0.05,
    "sibling untold": 0.05,
    "notes written": 0.11,
    "notes replaced": 0.09,
    "many replaced": 0.07,
    "about itself": 0.03,
    "general": 0.08,
}
"""The share of conversations that are of each kind; together one. Notes and corrections take longest to learn."""

IMPERSONAL = 0.2
"""The share of questions in which “my” and “our” become “the”."""

ALIKE = 0.5
"""The share of messages in which two facts of a relation have the same wording."""

OWN_QUESTION = 0.7
"""The share of other talk that is a question which the base model made up itself; nobody judged its answer."""
