"""EncoderLab: train, inspect and use the vision encoder of a vision-language model.

Importing it loads neither torch nor anything else that is heavy: each public name is loaded when it
is first used. One function per command: `encoderlab.evaluate(csv="pairs.csv")` returns its result.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> "module:attribute".
_WHERE = {
    "CKA": "encoderlab.metrics.cka:CKA",
    "CLIP": "encoderlab.models.clip:CLIP",
    "CORALAnalyzer": "encoderlab.metrics.coral:CORALAnalyzer",
    "Compressor": "encoderlab.compression.compressor:Compressor",
    "DataGenerator": "encoderlab.data.generator:DataGenerator",
    "Index": "encoderlab.retrieval.image_index:Index",
    "LLMManager": "encoderlab.encoders.manager:LLMManager",
    "Sample": "encoderlab.data.sample:Sample",
    "SimilarityVisualizer": "encoderlab.inspection.plots:SimilarityVisualizer",
    "SimpleVLM": "encoderlab.encoders.simple_vlm:SimpleVLM",
    "TokenSimilarityAnalyzer": "encoderlab.inspection.analyzer:TokenSimilarityAnalyzer",
    "VLM": "encoderlab.vlm.model:VLM",
    "VLMDataset": "encoderlab.data.vlm_dataset:VLMDataset",
    "VisionEncoderManager": "encoderlab.encoders.manager:VisionEncoderManager",
    "attention": "encoderlab.alignment.attention:run",
    "cka": "encoderlab.metrics.cka:cka",
    "classify": "encoderlab.contrastive.classify:run",
    "compare": "encoderlab.alignment.compare:run",
    "complement": "encoderlab.alignment.complement:run",
    "compress": "encoderlab.compression.compress:run",
    "coral": "encoderlab.alignment.coral:run",
    "draw": "encoderlab.workbench.draw:run",
    "e2e": "encoderlab.alignment.e2e:run",
    "elas": "encoderlab.alignment.elas:run",
    "embedding": "encoderlab.alignment.embedding:run",
    "evaluate": "encoderlab.contrastive.evaluate:run",
    "export": "encoderlab.workbench.export:run",
    "features": "encoderlab.workbench.features:run",
    "figures": "encoderlab.alignment.figures:run",
    "get_data_root": "encoderlab.core.project:get_data_root",
    "get_device": "encoderlab.encoders.hardware:get_device",
    "get_model_id": "encoderlab.core.aliases:get_model_id",
    "get_output_dir": "encoderlab.core.project:get_output_dir",
    "index": "encoderlab.retrieval.index:run",
    "judge_mteb": "encoderlab.judges.mteb:run",
    "layers": "encoderlab.alignment.layers:run",
    "load_config": "encoderlab.core.project:load_config",
    "load_dual": "encoderlab.encoders.dual:load_dual",
    "load_text": "encoderlab.encoders.text:load_text",
    "load_vision": "encoderlab.encoders.vision:load_vision",
    "multi_llm": "encoderlab.alignment.multi_llm:run",
    "stream": "encoderlab.alignment.stream:run",
    "report": "encoderlab.alignment.all:run",
    "registers": "encoderlab.inspection.registers:run",
    "read_samples": "encoderlab.data.read:read_samples",
    "search": "encoderlab.retrieval.search:run",
    "speed": "encoderlab.alignment.speed:run",
    "text_size": "encoderlab.inspection.text_size:run",
    "tokens": "encoderlab.inspection.tokens:run",
    "train": "encoderlab.contrastive.train:run",
    "validate": "encoderlab.alignment.validate:run",
    "vlm_answer": "encoderlab.vlm.answer:run",
    "vlm_evaluate": "encoderlab.vlm.evaluate:run",
    "vlm_train": "encoderlab.vlm.train:run",
    "words": "encoderlab.inspection.words:run",
}


__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name == "selftest":  # a module, as `python -m` needs it
        return importlib.import_module("encoderlab.selftest")
    if name not in _WHERE:
        raise AttributeError(f"module 'encoderlab' has no attribute {name!r}")
    from encoderlab.core.commands import load

    globals()[name] = value = load(_WHERE[name])
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
