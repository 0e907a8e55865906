"""Where samples come from: CSV, folders, chat JSONL, the synthetic world; safe decoding."""

from encoderlab.data.decode import ImageError, open_image
from encoderlab.data.read import read_samples, split_by_image
from encoderlab.data.sample import Sample

__all__ = ["ImageError", "Sample", "open_image", "read_samples", "split_by_image"]
