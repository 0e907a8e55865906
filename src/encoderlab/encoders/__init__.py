"""Checkpoints of all families behind one door: a name in, embeddings out."""
