"""The public names of EncoderLab. Written by `python scripts/reference`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from encoderlab.alignment.all import AllResult as AllResult
from encoderlab.alignment.attention import AttentionResult as AttentionResult
from encoderlab.alignment.compare import CompareResult as CompareResult
from encoderlab.alignment.complement import ComplementResult as ComplementResult
from encoderlab.alignment.coral import CoralResult as CoralResult
from encoderlab.alignment.e2e import E2eResult as E2eResult
from encoderlab.alignment.elas import ElasResult as ElasResult
from encoderlab.alignment.embedding import EmbeddingResult as EmbeddingResult
from encoderlab.alignment.figures import FiguresResult as FiguresResult
from encoderlab.alignment.layers import LayersResult as LayersResult
from encoderlab.alignment.multi_llm import MultiLlmResult as MultiLlmResult
from encoderlab.alignment.speed import SpeedResult as SpeedResult
from encoderlab.alignment.stream import StreamResult as StreamResult
from encoderlab.alignment.validate import ValidateResult as ValidateResult
from encoderlab.compression.compress import CompressResult as CompressResult
from encoderlab.compression.compressor import Compressor as Compressor
from encoderlab.compression.evaluate import CompressEvaluationResult as CompressEvaluationResult
from encoderlab.compression.settings import CompressData as CompressData
from encoderlab.compression.settings import CompressEvaluation as CompressEvaluation
from encoderlab.compression.settings import CompressLoss as CompressLoss
from encoderlab.compression.settings import CompressModel as CompressModel
from encoderlab.compression.settings import CompressOutput as CompressOutput
from encoderlab.compression.settings import CompressPicture as CompressPicture
from encoderlab.compression.settings import CompressTraining as CompressTraining
from encoderlab.compression.settings import CompressWatch as CompressWatch
from encoderlab.compression.settings import Hardware as Hardware
from encoderlab.compression.show import CompressPictureResult as CompressPictureResult
from encoderlab.contrastive.classify import ClassifyResult as ClassifyResult
from encoderlab.contrastive.evaluate import EvaluateResult as EvaluateResult
from encoderlab.contrastive.train import TrainResult as TrainResult
from encoderlab.core.aliases import get_model_id as get_model_id
from encoderlab.core.project import get_data_root as get_data_root
from encoderlab.core.project import get_output_dir as get_output_dir
from encoderlab.core.project import load_config as load_config
from encoderlab.data.generator import DataGenerator as DataGenerator
from encoderlab.data.read import read_samples as read_samples
from encoderlab.data.sample import Sample as Sample
from encoderlab.data.vlm_dataset import VLMDataset as VLMDataset
from encoderlab.encoders.dual import load_dual as load_dual
from encoderlab.encoders.hardware import get_device as get_device
from encoderlab.encoders.manager import LLMManager as LLMManager
from encoderlab.encoders.manager import VisionEncoderManager as VisionEncoderManager
from encoderlab.encoders.simple_vlm import SimpleVLM as SimpleVLM
from encoderlab.encoders.text import load_text as load_text
from encoderlab.encoders.vision import load_vision as load_vision
from encoderlab.inspection.analyzer import TokenSimilarityAnalyzer as TokenSimilarityAnalyzer
from encoderlab.inspection.plots import SimilarityVisualizer as SimilarityVisualizer
from encoderlab.inspection.registers import RegistersResult as RegistersResult
from encoderlab.inspection.settings import Image as Image
from encoderlab.inspection.settings import Model as Model
from encoderlab.inspection.settings import Output as Output
from encoderlab.inspection.settings import Similarity as Similarity
from encoderlab.inspection.settings import Visualization as Visualization
from encoderlab.inspection.text_size import TextSizeResult as TextSizeResult
from encoderlab.inspection.tokens import TokensResult as TokensResult
from encoderlab.inspection.words import WordsResult as WordsResult
from encoderlab.judges.mteb import JudgeMtebResult as JudgeMtebResult
from encoderlab.metrics.cka import CKA as CKA
from encoderlab.metrics.cka import cka as cka
from encoderlab.metrics.coral import CORALAnalyzer as CORALAnalyzer
from encoderlab.models.clip import CLIP as CLIP
from encoderlab.retrieval.image_index import Index as Index
from encoderlab.retrieval.index import IndexResult as IndexResult
from encoderlab.retrieval.search import SearchResult as SearchResult
from encoderlab.vlm.answer import VlmAnswerResult as VlmAnswerResult
from encoderlab.vlm.evaluate import VlmEvaluateResult as VlmEvaluateResult
from encoderlab.vlm.model import VLM as VLM
from encoderlab.vlm.train import VlmTrainResult as VlmTrainResult
from encoderlab.workbench.draw import DrawResult as DrawResult
from encoderlab.workbench.export import ExportResult as ExportResult
from encoderlab.workbench.features import FeaturesResult as FeaturesResult

__version__: str
__all__ = [
    "CKA",
    "CLIP",
    "VLM",
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
    "complement",
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
    "judge_mteb",
    "layers",
    "load_config",
    "load_dual",
    "load_text",
    "load_vision",
    "multi_llm",
    "read_samples",
    "registers",
    "report",
    "search",
    "speed",
    "stream",
    "text_size",
    "tokens",
    "train",
    "validate",
    "vlm_answer",
    "vlm_evaluate",
    "vlm_train",
    "words",
]

def attention(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    image: str | None = None,
    text: str = "",
    trust_remote_code: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> AttentionResult:
    """Roll-out and patch-text similarity of each encoder; writes the overlays to `out` if given.

    `seed` has no effect: nothing is random here.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        image: image file; empty: a built-in chart.
        text: text to compare with; empty: the built-in chart's caption.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        seed: seed of all random numbers.

    Returns:
        Both maps (h, w) of each encoder, with roll-out entropy and cosines.

    Raises:
        MissingError: the image or a model is not there.
        UsageError: an encoder twice, an image of one's own without a text, or a file that is no
            image.
    """

def classify(
    *,
    out: str | Path | None = None,
    image_dir: str = "data/images",
    classes: str = "",
    templates: Sequence[str] = [],
    model: str = "tiny-clip",
    top_k: int = 5,
    labels_csv: str | None = None,
    save_csv: str | None = None,
    trust_remote_code: bool = False,
    features_dir: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    seed: int = 0,
) -> ClassifyResult:
    """Zero-shot classes of the images in `image_dir`.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        image_dir: folder of images, flat or one sub-folder per class.
        classes: comma-separated class names, a name with a comma in double quotes; empty: names of
            the sub-folders.
        templates: sentences with {} where the class goes; empty: built in.
        model: a bundled name, an alias, a checkpoint, a folder or a Hugging Face id[@revision].
        top_k: classes shown per image.
        labels_csv: CSV with image_path,label: the true labels; paths are relative to its folder.
        save_csv: also write the predictions to this CSV.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        features_dir: folder of a feature store to read embeddings from and keep them in; empty:
            none.
        batch_size: batch size.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        backend: what runs the image tower; auto: compile where it gives the same and is faster
            here.
        seed: seed of all random numbers.

    Returns:
        The class of each image with its probability; accuracy and confusion where labels are known.

    Raises:
        MissingError: the folder, the model or the GPU is not there.
        UsageError: classes missing, blank or twice, a template without {}, labels that are none of
            the classes or of none of the images, or no readable image.
    """

def compare(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    controls: bool = False,
    projectors: bool = False,
    epochs: int = 300,
    gw: bool = False,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> CompareResult:
    """Compares encoders on the same samples; writes figures to `out` if it is given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        controls: add each encoder untrained, and with shuffled pairs: what chance looks like.
        projectors: also train projectors of four kinds into every language model.
        epochs: training epochs of a projector.
        gw: also the Gromov-Wasserstein distance, of at most 500 images (extra gw).
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        All scores of each pair of encoder and LLM, with intervals, and the paired verdicts.

    Raises:
        MissingError: data or a model is not there, or POT is needed and not installed.
        UsageError: too few samples, a model twice, or features that are not finite.
    """

def complement(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    answers: bool = False,
    data: str = "synthetic",
    img_root: str | None = None,
    n_images: int = 4000,
    n_test: int = 500,
    layer: int = -2,
    reduce: str = "pixel_shuffle:2",
    seeds: int = 3,
    cells_dir: str | None = None,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> ComplementResult:
    """Which encoders add to which on the same samples; writes a figure to `out` if it is given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        answers: also train small VLMs with each encoder alone, with two encoders, with one and a
            rotated copy of it, and one without images, and measure their accuracy.
        data: synthetic, a chat-format JSONL, a CSV with image_path,question,answer (and kind,
            split, options separated by |), or shards of the same fields, with `split` train and
            test.
        img_root: folder that image paths of the questions are relative to; empty: that of the data.
        n_images: synthetic images to train a VLM on, one question each.
        n_test: synthetic images of the test questions.
        layer: hidden state of the encoder; negative from the end.
        reduce: fewer image tokens: METHOD:TOKENS, pixel_shuffle:S, or none.
        seeds: VLMs of each kind, trained from --seed, --seed + 1, ....
        cells_dir: folder that keeps the trained VLMs between runs, and is shared by those of a
            sweep; empty: outputs/e2e-cells.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        For each ordered pair of encoders and each LLM the held-out R2 of ridge maps from A, B, both
        and A with copies of itself, the paired differences and the answer; with `answers`
        the same of right answers of small VLMs.

    Raises:
        MissingError: data or a model is not there.
        UsageError: fewer than two encoders, too few samples, a model twice, features that are
            not finite, or a setting that has no effect.
    """

def compress(
    *,
    out: str | Path | None = None,
    action: str = "train",
    model: CompressModel | Mapping[str, Any] | str = ...,
    training: CompressTraining | Mapping[str, Any] | int = ...,
    loss: CompressLoss | Mapping[str, Any] | str = ...,
    data: CompressData | Mapping[str, Any] | Sequence[str] = ...,
    hardware: Hardware | Mapping[str, Any] | str = ...,
    experiment: CompressWatch | Mapping[str, Any] | bool = ...,
    evaluation: CompressEvaluation | Mapping[str, Any] | int = ...,
    picture: CompressPicture | Mapping[str, Any] | str | None = ...,
    output: CompressOutput | Mapping[str, Any] | str = ...,
    trust_remote_code: bool = False,
    seed: int = 0,
) -> CompressResult | CompressEvaluationResult | CompressPictureResult:
    """Trains a compressor (action "train"), measures every method ("evaluate"), or compresses one
    image ("show").

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        action: train; evaluate: what every method keeps; show: one image's tokens before and after.
        model: Which encoder, and what compresses its tokens.
        training: How the compressor is trained.
        loss: What makes compressed tokens look like tokens.
        data: What it is trained on.
        hardware: Where it runs.
        experiment: How the run is watched.
        evaluation: What `encoderlab compress evaluate` measures.
        picture: What `encoderlab compress show` looks at.
        output: Where the results go.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        seed: seed of all random numbers.

    Returns:
        The result of the action.

    Raises:
        UsageError: a value, a shape or the data is wrong, or a setting was given for nothing.
        MissingError: images, a model or a GPU are not there.
        WorkError: the run diverged, or the disk is full.
    """

def coral(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    controls: bool = False,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> CoralResult:
    """CORAL and EAS of every pair; writes the six figures and the dashboard to `out` if given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        controls: add each encoder untrained, and with shuffled pairs: what chance looks like.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        The comparison and the EAS of each pair of encoder and LLM.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """

def draw(
    *,
    out: str | Path | None = None,
    folder: str = ".",
    photos: int = 100,
    pairs: int = 1000,
    languages: Sequence[str] = ["en"],
    size: int = 96,
    seed: int = 0,
) -> DrawResult:
    """Draws into `folder`, or into `out` where it is given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        folder: folder in which photos/ and pairs/ are made.
        photos: images in photos/, one sub-folder per kind.
        pairs: pairs in pairs/train.csv; val.csv and test.csv get a fifth each.
        languages: languages of the captions.
        size: pixels per side.
        seed: seed of all random numbers.

    Returns:
        The two folders, and the number of pictures in each part.

    Raises:
        UsageError: what `encoderlab.data.synthetic.example.write_example` refuses.
    """

def e2e(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    controls: bool = False,
    answers: bool = False,
    data: str = "synthetic",
    img_root: str | None = None,
    n_images: int = 4000,
    n_test: int = 500,
    layer: int = -2,
    reduce: str = "pixel_shuffle:2",
    seeds: int = 3,
    cells_dir: str | None = None,
    epochs: int = 300,
    scores: str | None = None,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> E2eResult:
    """Metrics against held-out retrieval and, with `answers`, against the right answers of VLMs, or
    against the benchmark results in `scores`.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        controls: add each encoder untrained, and with shuffled pairs: what chance looks like.
        answers: also train a small VLM for every encoder, language model and seed, and one without
            images, and measure their accuracy.
        data: synthetic, a chat-format JSONL, a CSV with image_path,question,answer (and kind,
            split, options separated by |), or shards of the same fields, with `split` train and
            test.
        img_root: folder that image paths of the questions are relative to; empty: that of the data.
        n_images: synthetic images to train a VLM on, one question each.
        n_test: synthetic images of the test questions.
        layer: hidden state of the encoder; negative from the end.
        reduce: fewer image tokens: METHOD:TOKENS, pixel_shuffle:S, or none.
        seeds: VLMs of each kind, trained from --seed, --seed + 1, ....
        cells_dir: folder that keeps the trained VLMs between runs, and is shared by those of a
            sweep; empty: outputs/e2e-cells.
        epochs: training epochs of a projector.
        scores: CSV of your benchmark results: columns encoder, llm, benchmark, score.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        The correlations of each metric with the outcome, in [-1, 1], with p, and their points.

    Raises:
        MissingError: data, a model or the file of scores is not there.
        UsageError: too few samples, a model twice, features that are not finite, or scores that
            cannot be read or name none of the encoders and LLMs, or a setting that has no effect.
    """

def elas(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    controls: bool = False,
    epochs: int = 300,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> ElasResult:
    """ELAS of every pair; writes the matrix to `out` if given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        controls: add each encoder untrained, and with shuffled pairs: what chance looks like.
        epochs: training epochs of a projector.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        The ELAS of each pair, published and calibrated, with intervals over splits.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """

def embedding(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    controls: bool = False,
    method: str = "tsne",
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> EmbeddingResult:
    """Maps by t-SNE, UMAP or PCA; writes figures and an interactive page to `out` if given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        controls: add each encoder untrained, and with shuffled pairs: what chance looks like.
        method: method of the map.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        The places (n, 2) of each space, and the Procrustes similarity of each pair, in [0, 1].

    Raises:
        MissingError: data or a model is not there, or UMAP is asked for and not installed.
        UsageError: an unknown method, too few samples, a model twice, or features that are not
            finite.
    """

def evaluate(
    *,
    out: str | Path | None = None,
    csv: str = "data/train.csv",
    img_root: str | None = None,
    model: str = "tiny-clip",
    trust_remote_code: bool = False,
    features_dir: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    seed: int = 0,
) -> EvaluateResult:
    """Recall@1/5/10, MRR and median rank of `model` on the pairs of `csv`, both directions.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        csv: held-out pairs: CSV with image_path,caption.
        img_root: folder that image paths are relative to; empty: that of the file.
        model: a bundled name, an alias, a checkpoint, a folder or a Hugging Face id[@revision].
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        features_dir: folder of a feature store to read embeddings from and keep them in; empty:
            none.
        batch_size: batch size.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        backend: what runs the image tower; auto: compile where it gives the same and is faster
            here.
        seed: seed of all random numbers.

    Returns:
        Scores in [0, 1] with interval and chance, and ranks, by direction.

    Raises:
        MissingError: the data, the model or the GPU is not there.
        UsageError: no captions, no readable image, or a model that cannot be evaluated.
    """

def export(
    *,
    out: str | Path | None = None,
    model: str = "tiny-clip",
    form: str = "onnx",
    text: bool = True,
    opset: int = 20,
    batch_sizes: Sequence[int] = [1, 3, 8],
    trust_remote_code: bool = False,
    seed: int = 0,
) -> ExportResult:
    """Writes `model` into the folder of its name below `out`, as ONNX files or, for a CLIP, as the
    folder that open_clip loads.

    `seed` has no effect: nothing is random here.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        model: a bundled name, an alias, a checkpoint, a folder or a Hugging Face id[@revision].
        form: onnx: graphs; open_clip: a CLIP as the folder that open_clip loads.
        text: also the text encoder, if the model has one.
        opset: version of the ONNX operators.
        batch_sizes: batch sizes at which the files are checked against torch.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        seed: seed of all random numbers.

    Returns:
        The files, their sizes, and the difference of their outputs from torch's.

    Raises:
        MissingError: the model, or a package of the extra `onnx`, is not there.
        UsageError: a family that cannot be exported, or something else in the folder's place.
        WorkError: an exported file differs from torch; it is not kept.
    """

def features(
    *,
    out: str | Path | None = None,
    action: str = "ls",
    target: str | None = None,
    encoders: Sequence[str] = ["tiny-clip"],
    what: Sequence[str] = ["pooled"],
    img_root: str | None = None,
    engine: str = "local",
    workers: int = 0,
    batch_size: int = 32,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    trust_remote_code: bool = False,
    seed: int = 0,
) -> FeaturesResult:
    """Acts on the store in the folder `out`.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        action: ls: what is stored; extract: compute and store; verify: read every byte; prune:
            remove what is damaged; delete: remove what TARGET names.
        target: extract: a folder, CSV or JSONL of images, or shards: train-{000..123}.tar,
            s3://b/*.parquet; delete: a table, an encoder, or all.
        encoders: extract: a bundled name, an alias, a checkpoint, a folder or a Hugging Face
            id[@revision].
        what: extract: pooled, cls, projected, patches, patches@LAYER[:int8], mean@LAYER.
        img_root: folder that image paths are relative to; empty: that of the file.
        engine: extract: who computes: local (this process), or ray (a cluster: RAY_ADDRESS, else
            this machine).
        workers: extract with ray: processes with a model each; 0: one per GPU, or one per machine.
        batch_size: batch size.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        backend: what runs the image tower; auto: compile where it gives the same and is faster
            here.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        seed: seed of all random numbers.

    Returns:
        The tables of the store with their sizes, and the images that were skipped.

    Raises:
        UsageError: a target that is lacking or not there, a wrong kind of feature, or a setting
            that has no effect.
        MissingError: images or a model that are not there.
        WorkError: damaged chunks were found, or features cannot be stored.
    """

def figures(
    *, out: str | Path | None = None, run: str = "", style: str = "paper", seed: int = 0
) -> FiguresResult:
    """Draws the figures of a run again.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        run: folder with the run.json of a run.
        style: paper: .pdf and .png, 7 inches wide at most; screen: .png.
        seed: seed of all random numbers.

    Returns:
        The folder, and file and caption of each figure.

    Raises:
        MissingError: there is no run in the folder.
        UsageError: an unknown style, or a run whose figures need more than its record.
    """

def index(
    *,
    out: str | Path | None = None,
    source: str = "data/images",
    db: str = "outputs/index",
    model: str = "tiny-clip",
    img_root: str | None = None,
    remove: bool = False,
    ann: bool = False,
    recall: float = 0.95,
    trust_remote_code: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    seed: int = 0,
) -> IndexResult:
    """Embeds the images of `source` into the index at `db`: only what is new or changed; rows of
    images that are gone from `source` are removed.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        source: folder, CSV or JSONL of images.
        db: folder of the index, or its address in object storage: s3://bucket/index.
        model: a bundled name, an alias, a checkpoint, a folder or a Hugging Face id[@revision].
        img_root: folder that image paths are relative to; empty: that of the file.
        remove: remove the images of SOURCE from the index; SOURCE need not exist any more.
        ann: also build or update an approximate index, and measure it (from 100,000 images).
        recall: recall at 10 that the approximate index must reach.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        batch_size: batch size.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        backend: what runs the image tower; auto: compile where it gives the same and is faster
            here.
        seed: seed of all random numbers.

    Returns:
        Numbers of images added, updated, removed and skipped, and the recall of an approximate
        index.

    Raises:
        MissingError: the source, the model or the GPU is not there.
        UsageError: the index belongs to another model or is damaged, has too few images for an
            approximate one, has no images of a source to remove, or a setting has no effect.
    """

def judge_mteb(
    *,
    out: str | Path | None = None,
    model: str = "tiny-clip",
    tasks: Sequence[str] = [],
    trust_remote_code: bool = False,
    batch_size: int = 32,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> JudgeMtebResult:
    """Scores an encoder by tasks of mteb; keeps mteb's own result files in `out`.

    Tasks that are scored already in the same folder, with the same weights, are read from there.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        model: a bundled name, an alias, a checkpoint, a folder or a Hugging Face id[@revision];
            untrained:NAME is its images before training.
        tasks: tasks of mteb by name, such as CIFAR10; mock: the small tasks that mteb brings to
            check a model, which need no network.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        batch_size: batch size.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        seed: seed of all random numbers.

    Returns:
        The main score of each task.

    Raises:
        MissingError: mteb, the encoder, the GPU or the data of a task is not there.
        UsageError: no task, an unknown one, or one that needs what the encoder does not take.
    """

def layers(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    controls: bool = False,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> LayersResult:
    """Debiased CKA of all layers of every pair; writes a heat map for each to `out` if given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        controls: add each encoder untrained, and with shuffled pairs: what chance looks like.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        CKA and p of each pair (vision layer, text layer), and whether the best layer is better than
        the penultimate.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """

def multi_llm(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    controls: bool = False,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> MultiLlmResult:
    """Every encoder with every LLM on the same samples; writes figures to `out` if given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        controls: add each encoder untrained, and with shuffled pairs: what chance looks like.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        The scores of each pair of encoder and LLM, with intervals, and an answer for each LLM.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """

def registers(
    *,
    out: str | Path | None = None,
    model: str = "tiny-siglip",
    images: str | None = None,
    n_images: int = 16,
    neurons: int = 10,
    csv: str | None = None,
    img_root: str | None = None,
    n: int = 500,
    vlm: str = "tiny-vlm",
    svg: bool = False,
    trust_remote_code: bool = False,
    device: str = "auto",
    dtype: str = "float32",
    seed: int = 0,
) -> RegistersResult:
    """Finds register neurons, moves their activation into an added token, and measures the effect.

    The controls add the token alone, and move the activation of as many random neurons of the same
    blocks.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        model: a bundled name, an alias, a checkpoint, a folder or a Hugging Face id[@revision].
        images: images to find the neurons on; empty: synthetic images.
        n_images: number of these.
        neurons: number of register neurons.
        csv: CSV of image_path,caption to measure recall on; empty: the synthetic world.
        img_root: folder that image paths are relative to; empty: that of the file.
        n: number of pairs and of questions to measure the effect on; 0: none.
        vlm: VLM that answers questions, if it uses this encoder; empty: none.
        svg: write figures as .svg too.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        device: auto, cpu, cuda or cuda:N.
        dtype: float32, bfloat16 or float16.
        seed: seed of all random numbers.

    Returns:
        Norms, Recall@1 and right answers in [0, 1], unchanged, with the empty token, with the
        register and with random neurons, and their paired differences. Without outlier tokens only
        their number, 0.

    Raises:
        MissingError: a model, image or the GPU is not there.
        UsageError: a family that takes no further token, or no readable image.
    """

def report(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    controls: bool = True,
    projectors: bool = False,
    epochs: int = 300,
    method: str = "tsne",
    batch_sizes: Sequence[int] = [1, 4, 16],
    language: str = "en",
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> AllResult:
    """Runs compare, multi-llm, coral, elas, e2e, layers, embedding, attention and speed.

    Writes figures and report.html to `out` if it is given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        controls: add each encoder untrained, and with shuffled pairs: what chance looks like.
        projectors: also train projectors of four kinds into every language model, and for inner
            layers in e2e.
        epochs: training epochs of a projector.
        method: method of the maps of the spaces.
        batch_sizes: batch sizes to measure.
        language: language of the report.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        The result of each.

    Raises:
        MissingError: data or a model is not there.
        UsageError: too few samples, a model twice, or features that are not finite.
    """

def search(
    *,
    out: str | Path | None = None,
    query: str | None = None,
    image: str | None = None,
    db: str = "outputs/index",
    k: int = 5,
    where: str | None = None,
    exact: bool = False,
    html: str | None = None,
    model: str | None = None,
    trust_remote_code: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> SearchResult:
    """The k images of the index at `db` that are nearest to a sentence or to an image.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        query: the sentence to search for.
        image: search with this image instead of a sentence.
        db: folder of the index, or its address in object storage: s3://bucket/index.
        k: number of results.
        where: keep only rows for which this SQL condition holds: caption LIKE '%dog%'.
        exact: compare with every image, even if there is an approximate index.
        html: also write a gallery page to this file.
        model: a bundled name, an alias, a checkpoint, a folder or a Hugging Face id[@revision];
            empty: the index's own.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        seed: seed of all random numbers.

    Returns:
        The hits, nearest first, each with its cosine in [-1, 1].

    Raises:
        MissingError: the index, the model or the GPU is not there.
        UsageError: no query, a blank one or two, another model than the index's, a bad `k` or
            `where`.
        ImageError: the query image cannot be read.
    """

def speed(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    batch_sizes: Sequence[int] = [1, 4, 8, 16, 32],
    trust_remote_code: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "torch",
    seed: int = 0,
) -> SpeedResult:
    """Times each encoder on random pixels; writes the dashboard to `out` if given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        batch_sizes: batch sizes to measure.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        backend: what runs the image tower; auto: compile where it gives the same and is faster
            here.
        seed: seed of all random numbers.

    Returns:
        Milliseconds, images/s, share of the peak and memory of each encoder and batch size.

    Raises:
        MissingError: a model or the GPU is not there.
        UsageError: an encoder twice, or a batch size that is not positive.
    """

def stream(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip", "tiny-siglip", "tiny-dinov2"],
    svg: bool = False,
    data: str = "",
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    img_root: str | None = None,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "local",
    workers: int = 0,
    features_dir: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> StreamResult:
    """Aligns every encoder with every LLM over all pairs of `data`.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders; untrained:NAME is NAME before training.
        svg: write figures as .svg too.
        data: pairs of image and caption: a folder, CSV or JSONL of images, or shards:
            train-{000..123}.tar, s3://b/*.parquet.
        llms: language models to align with.
        img_root: folder that image paths are relative to; empty: that of the file.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        engine: who computes: local (this process), or ray (a cluster: RAY_ADDRESS, else this
            machine).
        workers: ray: processes with a model each; 0: one per GPU, or one per machine.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        CKA, with an interval over shards, and CORAL of each pair of encoder and LLM.

    Raises:
        UsageError: no data named, a model twice, a setting that has no effect, or features that are
            not finite.
        MissingError: data, a model or Ray is not there.
        WorkError: features cannot be stored, or workers die again and again.
    """

def text_size(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = ["tiny-clip"],
    heights: Sequence[int] = [],
    layer: int = -2,
    n_train: int = 600,
    n_test: int = 300,
    svg: bool = False,
    trust_remote_code: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 32,
    seed: int = 0,
) -> TextSizeResult:
    """Reads digits of several heights from patch tokens; writes a figure to `out` if it is given.

    Pictures have one word of three digits each. The tokens of the patches that the middle digit
    touches, weighted by the area of each, are one vector; a linear probe reads the digit from it,
    and is tested on other words in other places.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: vision encoders.
        heights: heights of the digits in pixels of the encoder's input; empty: half a patch to four
            patches.
        layer: hidden state of the encoder; negative from the end.
        n_train: images of each height to fit the probe on.
        n_test: images of each height to test it on.
        svg: write the figure as .svg too.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        The accuracy at every height with its interval and chance, and the smallest height from
        which on all are read: their intervals, corrected for the number of heights, lie above
        half-way between chance and 1.

    Raises:
        MissingError: a model or the GPU is not there.
        UsageError: no encoder, one without a grid of patches, an unknown layer, or heights that
            cannot be drawn.
    """

def tokens(
    *,
    out: str | Path | None = None,
    model: Model | Mapping[str, Any] | str = ...,
    image: Image | Mapping[str, Any] | str | None = ...,
    similarity: Similarity | Mapping[str, Any] | str = ...,
    visualization: Visualization | Mapping[str, Any] | Sequence[int] = ...,
    output: Output | Mapping[str, Any] | str = ...,
    trust_remote_code: bool = False,
    device: Any = None,
    dtype: str = "float32",
    seed: int = 0,
) -> TokensResult:
    """Analyses one image, a folder or a glob; writes arrays and figures to `out` if given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        model: Which encoder; a file of the group `model` fills it in.
        image: The image or images to analyse.
        similarity: How two tokens are compared, and which tokens.
        visualization: How the figures look.
        output: Where the results go.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        device: auto, cpu, cuda or cuda:N, or N; empty: auto.
        dtype: float32, bfloat16 or float16.
        seed: seed of all random numbers.

    Returns:
        The maps and numbers of each image, and means over images with intervals.

    Raises:
        MissingError: the image, the model or the GPU is not there.
        UsageError: an unknown metric, layer, stage, colour map or format, a setting that has no
            effect, or no readable image.
    """

def train(
    *,
    out: str | Path | None = None,
    train_csv: str = "data/train.csv",
    val_csv: str | None = None,
    img_root: str | None = None,
    multi_positive: bool = True,
    augment: str = "none",
    num_workers: int = 0,
    in_memory: str = "auto",
    image_encoder: str = "vit",
    preset: str = "tiny",
    tokenizer: str = "bpe",
    activation: str | None = None,
    patch_dropout: float = 0.0,
    image_size: int | None = None,
    patch_size: int | None = None,
    vision_width: int | None = None,
    vision_layers: int | None = None,
    vision_heads: int | None = None,
    text_width: int | None = None,
    text_layers: int | None = None,
    text_heads: int | None = None,
    embed_dim: int | None = None,
    context_length: int | None = None,
    vocab_size: int | None = None,
    epochs: int = 10,
    batch_size: int = 64,
    chunk_size: int | None = None,
    lr: float = 0.0005,
    wd: float = 0.1,
    warmup_steps: int | None = None,
    grad_clip: float = 1.0,
    loss: str = "softmax",
    ema: float = 0.0,
    grad_checkpointing: bool = False,
    resume: str | None = None,
    save_every_steps: int | None = None,
    logger: str = "tensorboard",
    wandb_project: str | None = None,
    zero_shot_classes: str = "",
    device: str = "auto",
    precision: str = "auto",
    devices: int | None = None,
    strategy: str = "auto",
    seed: int = 0,
) -> TrainResult:
    """Trains a CLIP on the pairs of a CSV, folder, JSONL or shards; see `encoderlab train --help`.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        train_csv: CSV with image_path,caption; also a folder, a JSONL, or shards:
            train-{000..123}.tar.
        val_csv: validation pairs; empty: hold out some of the images.
        img_root: folder that image paths are relative to; empty: that of the file.
        multi_positive: captions of one image are all positives of it.
        augment: augmentation of the images.
        num_workers: data-loading processes; 0: none, or some if images are not kept in memory.
        in_memory: keep decoded images in memory; auto: while they fit into 4 GB. Images in shards
            that are not kept are read shard by shard, each rank its own.
        image_encoder: kind of image encoder.
        preset: named shape: tiny, ViT-B/32, ViT-B/16, ViT-L/14, ViT-L/14-336, RN50 ....
        tokenizer: bpe (trained on the captions), char, or a folder with tokenizer files.
        activation: gelu or quick_gelu; empty: the preset's.
        patch_dropout: share of patches dropped in training.
        image_size: pixels per side.
        patch_size: pixels per side of a patch.
        vision_width: channels of the image encoder.
        vision_layers: blocks of the image encoder.
        vision_heads: attention heads of the image encoder.
        text_width: channels of the text encoder.
        text_layers: blocks of the text encoder.
        text_heads: attention heads of the text encoder.
        embed_dim: width of the shared embedding.
        context_length: tokens per caption at most.
        vocab_size: vocabulary size of a trained tokenizer.
        epochs: passes over the data.
        batch_size: batch size in pairs; the other pairs are the negatives.
        chunk_size: pairs per forward pass (cached gradients); empty: the whole batch.
        lr: peak learning rate.
        wd: weight decay.
        warmup_steps: steps of linear warm-up; empty: chosen from the length.
        grad_clip: largest gradient norm; 0: no limit.
        loss: contrastive loss.
        ema: decay of averaged weights; 0: none.
        grad_checkpointing: recompute activations in the backward pass: less memory, more time.
        resume: run folder or .ckpt file to resume.
        save_every_steps: steps between checkpoints; empty: one per minute.
        logger: logger of the training curves.
        wandb_project: project name for --logger wandb.
        zero_shot_classes: comma-separated classes for zero-shot classification during training.
        device: auto, cpu, cuda or cuda:N.
        precision: precision.
        devices: how many GPUs or processes on this machine; empty: as many as torchrun or srun
            started, else 1.
        strategy: distributed strategy.
        seed: seed of all random numbers.

    Returns:
        The best epoch, its metrics on the validation pairs, and the folder of the checkpoints.

    Raises:
        UsageError: a value, a shape or the data is wrong.
        MissingError: a file or a GPU is not there.
        WorkError: the run diverged.
    """

def validate(
    *,
    out: str | Path | None = None,
    encoders: Sequence[str] = [],
    svg: bool = False,
    n_samples: int = 30,
    data_types: Sequence[str] = [],
    data_root: str | None = None,
    llms: Sequence[str] = ["tiny-llama", "tiny-qwen"],
    scores: str = "cambrian1",
    features: str | None = None,
    compute: bool = False,
    scores_setting: str | None = None,
    metrics: Sequence[str] = [],
    targets: Sequence[str] = [],
    trust_remote_code: bool = False,
    quantize: str | None = None,
    device_map: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> ValidateResult:
    """Metrics of encoders against published scores; writes a figure to `out` if it is given.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoders: encoders of the scores to load; empty: all that have a hub id.
        svg: write figures as .svg too.
        n_samples: samples per data type.
        data_types: data types to use; empty: all available.
        data_root: folder of typed sets, a CSV, a JSONL, or `synthetic`; empty: VLM_DATA_ROOT, else
            the built-in samples and more of their kind.
        llms: language models to align with.
        scores: published scores: cambrian1 or law-of-vision; a CSV with columns encoder, benchmark,
            score and, if you like, llm, setting, class (lang, ssl or other), resolution; the folder
            of a run of e2e with --answers; or results of CLIP_benchmark, a folder of its JSON files
            or its CSV.
        features: a feature store, or the folder of a run of compare, multi-llm, stream or e2e, with
            encoders of the scores; empty: use the scores alone.
        compute: load the encoders of the scores by their hub ids, and compute their features.
        scores_setting: setting of the scores to predict, such as 1.2M-frozen; empty: the first.
        metrics: metrics to test; empty: all available; gw_pairing and gw_distance (extra gw) are
            computed only if named. p is corrected for every metric and target tested.
        targets: benchmarks or groups of them to predict; empty: all, the groups and the average.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        quantize: quantise the weights of the language models (GPU only).
        device_map: distribute the layers of the language models over all GPUs and the main memory.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder that keeps features between runs; empty: outputs/features.
        batch_size: batch size.
        seed: seed of all random numbers.

    Returns:
        The rank correlation of each metric with each target within the class and over all encoders,
        with baselines, ceilings and the answer.

    Raises:
        MissingError: the scores, the features or a model are not there.
        UsageError: scores that cannot be read, no encoder of the features among them, an unknown
            setting, metric or target, or a setting that has no effect.
    """

def vlm_answer(
    *,
    out: str | Path | None = None,
    image: str | None = None,
    text: str | None = None,
    model: str = "tiny-vlm",
    candidates: int = 5,
    explain: bool = False,
    svg: bool = False,
    trust_remote_code: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> VlmAnswerResult:
    """Answers a question about an image; see `encoderlab vlm answer --help`.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        image: the image.
        text: the question.
        model: tiny-vlm, or the folder of a run of vlm train.
        candidates: number of candidates.
        explain: map the answer's attention over the image, and check the map by ablation.
        svg: write figures as .svg too.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        seed: seed of all random numbers.

    Returns:
        The answer with its probability, other candidates, and the explanation if it is asked for.

    Raises:
        UsageError: no image or no question, or a prompt that is too long.
        MissingError: a file, a checkpoint or a GPU is not there.
    """

def vlm_evaluate(
    *,
    out: str | Path | None = None,
    model: Sequence[str] = ["tiny-vlm"],
    data: str = "synthetic",
    img_root: str | None = None,
    split: str | None = None,
    n: int = 1000,
    languages: Sequence[str] = ["en"],
    metric: str = "exact",
    controls: bool = True,
    save_answers: bool = False,
    trust_remote_code: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    dtype: str = "auto",
    features_dir: str = "outputs/features",
    seed: int = 0,
) -> VlmEvaluateResult:
    """Counts the right answers of VLMs; see `encoderlab vlm evaluate --help`.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        model: one or several: tiny-vlm, the folder of a run of vlm train, or a LLaVA folder or hub
            id.
        data: synthetic, a chat-format JSONL, a CSV with image_path,question,answer (and kind,
            split, options separated by |), or shards of the same fields.
        img_root: folder that image paths are relative to; empty: that of the file.
        split: train or test of the synthetic world (empty: test); else rows with this `split`.
        n: images of the synthetic world; of other data the first questions, 0: all.
        languages: languages of the synthetic questions.
        metric: metric: exact match, relaxed (numbers within 5 %), anls, or vqa (agreement with
            several annotators).
        controls: controls: ask without the image, and with the image of another question.
        save_answers: write one line per question to answers.jsonl.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        batch_size: batch size.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        features_dir: folder of the feature store that holds the image tokens.
        seed: seed of all random numbers.

    Returns:
        Accuracies per kind with intervals over images, controls, and paired comparisons.

    Raises:
        UsageError: no question, or a model that is no VLM.
        MissingError: data, a checkpoint or a GPU is not there.
    """

def vlm_train(
    *,
    out: str | Path | None = None,
    encoder: str = "tiny-clip",
    llm: str = "tiny-llama",
    projector: str = "mlp",
    norm: bool = True,
    reduce: str = "pixel_shuffle:2",
    queries: int = 16,
    layer: int = -2,
    data: str = "synthetic",
    val_data: str | None = None,
    img_root: str | None = None,
    split: str | None = None,
    n_images: int = 10000,
    languages: Sequence[str] = ["en"],
    captions: int = 0,
    train: str = "all",
    epochs: int = 1,
    batch_size: int = 32,
    chunk_size: int | None = None,
    lr: float = 0.002,
    llm_lr: float = 0.001,
    lora_rank: int = 8,
    wd: float = 0.05,
    warmup_steps: int | None = None,
    grad_clip: float = 1.0,
    controls: Sequence[str] = ["blind"],
    resume: str | None = None,
    save_every_steps: int | None = None,
    logger: str = "tensorboard",
    wandb_project: str | None = None,
    trust_remote_code: bool = False,
    device: str = "auto",
    precision: str = "auto",
    devices: int | None = None,
    strategy: str = "auto",
    features_dir: str = "outputs/features",
    seed: int = 0,
) -> VlmTrainResult:
    """Trains a VLM on questions about images; see `encoderlab vlm train --help`.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        encoder: image encoder; NAME+NAME for two side by side, untrained:NAME for random weights.
        llm: causal language model.
        projector: projector from image tokens to the language model.
        norm: LayerNorm before the projector, needed for large token norms.
        reduce: fewer image tokens: METHOD:TOKENS, pixel_shuffle:S, or none.
        queries: number of output tokens of cross_attention.
        layer: hidden state of the encoder; negative from the end.
        data: synthetic, a chat-format JSONL, a CSV with image_path,question,answer (and kind,
            split, options separated by |), or shards of the same fields.
        val_data: validation questions, which select the best epoch; empty: held-out images of the
            data.
        img_root: folder that image paths are relative to; empty: that of the file.
        split: train only on rows with this value of `split`.
        n_images: images of the synthetic world.
        languages: languages of the synthetic questions.
        captions: first train the projector alone on captions of this many synthetic images (LLaVA's
            first stage).
        train: projector; lora: and low-rank updates of the language model; all: and its weights.
        epochs: passes over the questions.
        batch_size: batch size in questions.
        chunk_size: questions per forward pass; empty: the whole batch.
        lr: peak learning rate of the projector.
        llm_lr: peak learning rate of the language model.
        lora_rank: rank of the updates.
        wd: weight decay.
        warmup_steps: steps of linear warm-up; empty: a twentieth of all.
        grad_clip: largest gradient norm; 0: no limit.
        controls: also train a twin: blind (without the image), untrained (random encoder).
        resume: run folder to resume.
        save_every_steps: steps between checkpoints; empty: one per minute.
        logger: logger of the training curves.
        wandb_project: project name for --logger wandb.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        device: auto, cpu, cuda or cuda:N.
        precision: precision of training.
        devices: how many GPUs or processes on this machine; empty: as many as torchrun or srun
            started, else 1.
        strategy: distributed strategy: auto or ddp.
        features_dir: folder of the feature store that holds the image tokens.
        seed: seed of all random numbers.

    Returns:
        The accuracy on held-out questions beside that of the control twins.

    Raises:
        UsageError: a value, a design or the data is wrong.
        MissingError: a file, a checkpoint or a GPU is not there.
        WorkError: the run diverged.
    """

def words(
    *,
    out: str | Path | None = None,
    image: str | None = None,
    model: str = "tiny-vlm",
    text: str | None = None,
    k: int = 5,
    layer: int | None = None,
    n: int = 100,
    corpus: str | None = None,
    captions: int = 500,
    svg: bool = False,
    trust_remote_code: bool = False,
    batch_size: int = 16,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> WordsResult:
    """Reads the words nearest to the image tokens of a VLM in every layer of its language model.

    On synthetic scenes it counts how often the word of an object is near the tokens that cover it,
    beside the words of the objects of other images.

    Args:
        out: folder that the figures and arrays are written to; nothing is written where None.
        image: image; empty: a synthetic scene.
        model: tiny-vlm, the folder of a run of vlm train, or a LLaVA folder or hub id.
        text: question about the image; empty: what the image shows.
        k: number of nearest words.
        layer: hidden state to show, 0 to the number of blocks, or negative; empty: for each lens
            the one furthest above chance, or the last if none is.
        n: number of synthetic scenes to check the words on; 0: none.
        corpus: text file of captions, one per line, whose words are compared with the tokens;
            empty: captions of the synthetic world.
        captions: number of these.
        svg: write figures as .svg too.
        trust_remote_code: run the Python that comes with a checkpoint (only from a source you
            trust).
        batch_size: batch size.
        device: auto, cpu, cuda or cuda:N.
        dtype: auto, float32, bfloat16 or float16.
        seed: seed of all random numbers.

    Returns:
        The words of the image at one layer, and shares in [0, 1] by lens, word and layer.

    Raises:
        MissingError: a model, file or the GPU is not there.
        UsageError: an unknown layer, image tokens without a grid, or a corpus without words.
    """
