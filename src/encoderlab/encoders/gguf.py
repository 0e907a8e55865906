"""A language model in a GGUF file (llama.cpp), written once in the format of transformers."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path

from encoderlab.encoders.loading import pretrained, quiet_loading
from encoderlab.errors import MissingError


def convert(source: Path, folder: Path) -> None:
    """Writes the language model of a GGUF file as safetensors in fp32, with its tokenizer.

    Args:
        source: the file; quantised weights are dequantised.
        folder: an empty folder.

    Raises:
        MissingError: a package of the extra `gguf` is missing.
        UsageError: the file is damaged, or its architecture is unknown to transformers.
    """
    for module in ("gguf", "accelerate"):
        if importlib.util.find_spec(module) is None:
            raise MissingError(
                f"a GGUF file is read through {module}, which is not installed",
                got=str(source),
                hint='pip install "encoderlab[gguf]"',
            )
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with quiet_loading(source):
        # Its progress bar is tqdm's own, which no setting of transformers turns off.
        with contextlib.redirect_stderr(io.StringIO()):
            model = pretrained(
                AutoModelForCausalLM,
                source.parent,
                gguf_file=source.name,
                quantization_config=GgufConfig(dequantize=True),
            )
        # save_pretrained refuses a model that still says that it is quantised.
        model.hf_quantizer = None
        vars(model.config).pop("quantization_config", None)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
