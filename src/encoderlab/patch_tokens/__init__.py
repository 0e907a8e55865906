"""Similarity and reduction of the patch tokens of an encoder."""
