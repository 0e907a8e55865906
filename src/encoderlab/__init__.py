"""EncoderLab: train, inspect and use the vision encoder of a vision-language model.

Importing it loads neither torch nor anything else that is heavy: each public name is loaded when it
is first used. One function per command: `encoderlab.evaluate(csv="pairs.csv")` returns its result.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    "VLMDataset": "encoderlab.data.vlm_dataset:VLMDataset",
    "VisionEncoderManager": "encoderlab.encoders.manager:VisionEncoderManager",
    "attention": "encoderlab.alignment.attention:run",
    "cka": "encoderlab.metrics.cka:cka",
    "classify": "encoderlab.contrastive.classify:run",
    "compare": "encoderlab.alignment.compare:run",
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
    "layers": "encoderlab.alignment.layers:run",
    "load_config": "encoderlab.core.project:load_config",
    "load_dual": "encoderlab.encoders.dual:load_dual",
    "load_text": "encoderlab.encoders.text:load_text",
    "load_vision": "encoderlab.encoders.vision:load_vision",
    "multi_llm": "encoderlab.alignment.multi_llm:run",
    "stream": "encoderlab.alignment.stream:run",
    "report": "encoderlab.alignment.all:run",
    "read_samples": "encoderlab.data.read:read_samples",
    "search": "encoderlab.retrieval.search:run",
    "speed": "encoderlab.alignment.speed:run",
    "tokens": "encoderlab.inspection.tokens:run",
    "train": "encoderlab.contrastive.train:run",
}


__all__ = [
    "CKA",
    "CLIP",
    "CORALAnalyzer",
    "Compressor",
    "DataGenerator",
    "Index",
    "LLMManager",
    "Sample",
    "SimilarityVisualizer",
    "SimpleVLM",
    "TokenSimilarityAnalyzer",
    "VLMDataset",
    "VisionEncoderManager",
    "__version__",
    "attention",
    "cka",
    "classify",
    "compare",
    "compress",
    "coral",
    "draw",
    "e2e",
    "elas",
    "embedding",
    "evaluate",
    "export",
    "features",
    "figures",
    "get_data_root",
    "get_device",
    "get_model_id",
    "get_output_dir",
    "index",
    "layers",
    "load_config",
    "load_dual",
    "load_text",
    "load_vision",
    "multi_llm",
    "read_samples",
    "report",
    "search",
    "speed",
    "stream",
    "tokens",
    "train",
]

if TYPE_CHECKING:
    from encoderlab import selftest as selftest
    from encoderlab.alignment.all import run as report
    from encoderlab.alignment.attention import run as attention
    from encoderlab.alignment.compare import run as compare
    from encoderlab.alignment.coral import run as coral
    from encoderlab.alignment.e2e import run as e2e
    from encoderlab.alignment.elas import run as elas
    from encoderlab.alignment.embedding import run as embedding
    from encoderlab.alignment.figures import run as figures
    from encoderlab.alignment.layers import run as layers
    from encoderlab.alignment.multi_llm import run as multi_llm
    from encoderlab.alignment.speed import run as speed
    from encoderlab.alignment.stream import run as stream
    from encoderlab.compression.compress import run as compress
    from encoderlab.compression.compressor import Compressor
    from encoderlab.contrastive.classify import run as classify
    from encoderlab.contrastive.evaluate import run as evaluate
    from encoderlab.contrastive.train import run as train
    from encoderlab.core.aliases import get_model_id
    from encoderlab.core.project import get_data_root, get_output_dir, load_config
    from encoderlab.data.generator import DataGenerator
    from encoderlab.data.read import read_samples
    from encoderlab.data.sample import Sample
    from encoderlab.data.vlm_dataset import VLMDataset
    from encoderlab.encoders.dual import load_dual
    from encoderlab.encoders.hardware import get_device
    from encoderlab.encoders.manager import LLMManager, VisionEncoderManager
    from encoderlab.encoders.simple_vlm import SimpleVLM
    from encoderlab.encoders.text import load_text
    from encoderlab.encoders.vision import load_vision
    from encoderlab.inspection.analyzer import TokenSimilarityAnalyzer
    from encoderlab.inspection.plots import SimilarityVisualizer
    from encoderlab.inspection.tokens import run as tokens
    from encoderlab.metrics.cka import CKA, cka
    from encoderlab.metrics.coral import CORALAnalyzer
    from encoderlab.models.clip import CLIP
    from encoderlab.retrieval.image_index import Index
    from encoderlab.retrieval.index import run as index
    from encoderlab.retrieval.search import run as search
    from encoderlab.workbench.draw import run as draw
    from encoderlab.workbench.export import run as export
    from encoderlab.workbench.features import run as features


# A type checker sees the imports above, and that a name is not there.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "selftest":  # a module, as `python -m` needs it
            return importlib.import_module("encoderlab.selftest")
        if name not in _WHERE:
            raise AttributeError(f"module 'encoderlab' has no attribute {name!r}")
        globals()[name] = value = _load(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


def _load(name: str) -> Any:
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
