"""How our own CLIP is trained: batches, steps, checkpoints, validation."""
