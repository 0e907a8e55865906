"""The model card of each kind of bundled checkpoint, and its measurements.

`pairs` for a CLIP or SigLIP, `vision` for an encoder without words, `language` for an LLM.
"""
