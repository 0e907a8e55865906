"""Look inside: what the patch tokens of an image hold."""
