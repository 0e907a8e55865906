"""Names and sentences that no image shows: what a query or a class that fits nothing scores.

They are abstract, since any thing that can be seen may be in somebody's images.
"""

from __future__ import annotations

# A query or an image fits nothing where a larger share of what is unrelated is as near: as in a
# test at 5 %, few that fit do worse by chance.
UNRELATED_SHARE = 0.05
NAMES = (
    "democracy", "inflation", "patience", "an apology", "a rumour", "tomorrow", "justice", "a verb",
    "courage", "a promise", "loyalty", "gravity", "an opinion", "a deadline", "regret", "jealousy",
    "a melody", "wisdom", "a discount", "freedom", "boredom", "a password", "ambition",
    "luck", "gratitude", "the future", "a theory", "silence", "an election", "truth",
    "a mortgage", "grammar", "honesty", "debt", "a question", "sarcasm", "a habit",
    "nostalgia", "a warranty", "consent",
)  # fmt: skip
SENTENCES = tuple(
    sentence.format(name)
    for name in NAMES
    for sentence in ("{}", "{} is hard to explain", "they talked about {} again")
)
