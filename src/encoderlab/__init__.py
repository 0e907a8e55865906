"""EncoderLab: train, inspect and use the vision encoder of a vision-language model."""

__version__ = "0.1.0"
