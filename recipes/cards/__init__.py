"""What each kind of bundled checkpoint says of itself, and how that is measured.

`pairs` for a CLIP or SigLIP, `vision` for an encoder without words, `language` for an LLM.
"""
