"""Compress: train, evaluate and show visual token reduction."""
