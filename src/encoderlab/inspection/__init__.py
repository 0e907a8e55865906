"""Inspection of the patch tokens of images."""
