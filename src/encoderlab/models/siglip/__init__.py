"""Our own SigLIP, for training: `siglip` the model, `export` its Hugging Face form.

Checkpoints of others are read through transformers, in `encoders`.
"""

from encoderlab.models.siglip.siglip import SigLIP, SigLIPConfig

__all__ = ["SigLIP", "SigLIPConfig"]
