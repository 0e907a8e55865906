"""Search by sentence or image: `index` keeps embeddings in a table, `exact` finds the nearest."""

from encoderlab.search.index import Changes, Hit, Index

__all__ = ["Changes", "Hit", "Index"]
