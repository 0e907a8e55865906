"""Train a CLIP on image-text pairs, evaluate its retrieval, classify zero-shot."""
