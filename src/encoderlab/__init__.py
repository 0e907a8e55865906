"""EncoderLab: train, inspect and use the vision encoder of a vision-language model.

Importing it loads neither torch nor anything else that is heavy: each public name is loaded when it
is first used. One function per command: `encoderlab.evaluate(csv="pairs.csv")` returns its result.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> "module:attribute".
_WHERE = {
    "CKA": "encoderlab.metrics.cka:CKA",
    "CLIP": "encoderlab.models.clip:CLIP",
    "CORALAnalyzer": "encoderlab.metrics.coral:CORALAnalyzer",
    "Compressor": "encoderlab.compress.compressor:Compressor",
    "DataGenerator": "encoderlab.data.generator:DataGenerator",
    "Index": "encoderlab.search:Index",
    "LLMManager": "encoderlab.encoders.manager:LLMManager",
    "Sample": "encoderlab.data.sample:Sample",
    "SimilarityVisualizer": "encoderlab.plots.tokens:SimilarityVisualizer",
    "TokenSimilarityAnalyzer": "encoderlab.tokens.analyzer:TokenSimilarityAnalyzer",
    "VLMDataset": "encoderlab.data.vlm_dataset:VLMDataset",
    "VisionEncoderManager": "encoderlab.encoders.manager:VisionEncoderManager",
    "all": "encoderlab.experiments.all:run",
    "attention": "encoderlab.experiments.attention:run",
    "cka": "encoderlab.metrics.cka:cka",
    "classify": "encoderlab.experiments.classify:run",
    "compare": "encoderlab.experiments.compare:run",
    "compress": "encoderlab.experiments.compress:run",
    "coral": "encoderlab.experiments.coral:run",
    "draw": "encoderlab.experiments.draw:run",
    "e2e": "encoderlab.experiments.e2e:run",
    "elas": "encoderlab.experiments.elas:run",
    "embedding": "encoderlab.experiments.embedding:run",
    "evaluate": "encoderlab.experiments.evaluate:run",
    "export": "encoderlab.experiments.export:run",
    "features": "encoderlab.experiments.features:run",
    "figures": "encoderlab.experiments.figures:run",
    "index": "encoderlab.experiments.index:run",
    "layers": "encoderlab.experiments.layers:run",
    "load_dual": "encoderlab.encoders.dual:load_dual",
    "load_text": "encoderlab.encoders.text:load_text",
    "load_vision": "encoderlab.encoders.vision:load_vision",
    "multi_llm": "encoderlab.experiments.multi_llm:run",
    "stream": "encoderlab.experiments.stream:run",
    "read_samples": "encoderlab.data.read:read_samples",
    "search": "encoderlab.experiments.search:run",
    "speed": "encoderlab.experiments.speed:run",
    "tokens": "encoderlab.experiments.tokens:run",
    "train": "encoderlab.experiments.train:run",
}

# What has another name now: old name -> (the new one, the version since which it has it).
_FORMERLY: dict[str, tuple[str, str]] = {}

_ALSO_PACKAGES = ("compress", "features", "search", "tokens")

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
    "TokenSimilarityAnalyzer",
    "VLMDataset",
    "VisionEncoderManager",
    "__version__",
    "all",
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
    "index",
    "layers",
    "load_dual",
    "load_text",
    "load_vision",
    "multi_llm",
    "read_samples",
    "search",
    "speed",
    "stream",
    "tokens",
    "train",
]

if TYPE_CHECKING:
    from encoderlab.compress.compressor import Compressor
    from encoderlab.data.generator import DataGenerator
    from encoderlab.data.read import read_samples
    from encoderlab.data.sample import Sample
    from encoderlab.data.vlm_dataset import VLMDataset
    from encoderlab.encoders.dual import load_dual
    from encoderlab.encoders.manager import LLMManager, VisionEncoderManager
    from encoderlab.encoders.text import load_text
    from encoderlab.encoders.vision import load_vision
    from encoderlab.experiments.all import run as all
    from encoderlab.experiments.attention import run as attention
    from encoderlab.experiments.classify import run as classify
    from encoderlab.experiments.compare import run as compare
    from encoderlab.experiments.compress import run as compress
    from encoderlab.experiments.coral import run as coral
    from encoderlab.experiments.draw import run as draw
    from encoderlab.experiments.e2e import run as e2e
    from encoderlab.experiments.elas import run as elas
    from encoderlab.experiments.embedding import run as embedding
    from encoderlab.experiments.evaluate import run as evaluate
    from encoderlab.experiments.export import run as export
    from encoderlab.experiments.features import run as features
    from encoderlab.experiments.figures import run as figures
    from encoderlab.experiments.index import run as index
    from encoderlab.experiments.layers import run as layers
    from encoderlab.experiments.multi_llm import run as multi_llm
    from encoderlab.experiments.search import run as search
    from encoderlab.experiments.speed import run as speed
    from encoderlab.experiments.stream import run as stream
    from encoderlab.experiments.tokens import run as tokens
    from encoderlab.experiments.train import run as train
    from encoderlab.metrics.cka import CKA, cka
    from encoderlab.metrics.coral import CORALAnalyzer
    from encoderlab.models.clip import CLIP
    from encoderlab.plots.tokens import SimilarityVisualizer
    from encoderlab.search import Index
    from encoderlab.tokens.analyzer import TokenSimilarityAnalyzer


# A type checker sees the imports above, and that a name is not there.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _FORMERLY:
            from encoderlab.deprecation import Former, say_once

            now, since = _FORMERLY[name]
            say_once(Former(f"encoderlab.{name}", since), f"encoderlab.{now}")
            return __getattr__(now)
        if name not in _WHERE:
            raise AttributeError(f"module 'encoderlab' has no attribute {name!r}")
        if name in _ALSO_PACKAGES:
            return importlib.import_module(f"encoderlab.{name}")
        globals()[name] = value = _load(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


def _load(name: str) -> Any:
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


class _CommandPackage(ModuleType):
    """A subpackage that has the name of a command: called, it does what the command does."""

    def __call__(self, *args: Any, **parameters: Any) -> Any:
        return _load(self.__name__.rpartition(".")[2])(*args, **parameters)


class _Package(ModuleType):
    """Importing `encoderlab.search` puts the subpackage where the function is expected: be both."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ALSO_PACKAGES and isinstance(value, ModuleType):
            value.__class__ = _CommandPackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
