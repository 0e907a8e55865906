"""What the patch tokens of an encoder say about each other."""
