"""From the name of a checkpoint to a local folder: an existing one, or one of the hub's cache.

Downloads safetensors, JSON and tokenizer text only. Reads no weights, knows no model family.
"""

from __future__ import annotations

from pathlib import Path

from encoderlab.errors import MissingError, UsageError

FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model")
CODE = ("*.py",)
WANT = "a folder that exists, or a hub id such as openai/clip-vit-base-patch32"


def looks_like_path(name: str) -> bool:
    """Whether a name can only be a local path: a hub id has exactly one slash, inside."""
    outside = name.startswith((".", "/", "~")) or name.endswith("/")
    return outside or name.count("/") > 1


def no_such_folder(name: str, want: str) -> MissingError:
    """The error for a path that does not exist; `want` says what would be right."""
    return MissingError("no such folder", got=name, want=want, hint="check the path")


def local_folder(name: str | Path, *, code: bool = False) -> Path:
    """The folder of a checkpoint, downloaded if it is not there.

    Args:
        name: a path that exists, or a hub id, optionally `id@revision`.
        code: download its Python files too; nothing here runs them.

    Returns:
        The path of the folder.

    Raises:
        MissingError: no such folder, repository or revision, or the hub cannot be reached.
        UsageError: `name` is a file.
    """  # noqa: DOC501
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise UsageError(
            "the name of a checkpoint points to a file",
            got=str(name),
            want="the folder that holds config.json and model.safetensors",
        )
    text = str(name)
    if looks_like_path(text) or "/" not in text:
        raise no_such_folder(text, WANT)
    repository, _, revision = text.partition("@")
    return _download(repository, revision or None, (*FILES, *CODE) if code else FILES)


def _download(repository: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise MissingError(
            "the checkpoint asks for an agreement first",
            got=repository,
            hint=f"accept it on the hub's page of {repository}, then run `hf auth login`",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise MissingError(
            "neither a local folder nor a repository on the hub",
            got=repository,
            hint="list what is at hand: encoderlab ls encoders",
        ) from error
    except RevisionNotFoundError as error:
        raise MissingError(
            "the repository has no such revision", got=f"{repository}@{revision}"
        ) from error
    except (OSError, ConnectionError, ValueError, RuntimeError) as error:
        # Every transport failure is one of these, depending on the version of huggingface_hub.
        if Path(repository).parent.is_dir():  # outputs/train has the form of a hub id
            raise no_such_folder(repository, WANT) from error
        raise MissingError(
            "no folder here has this name, it is not in the cache, and the hub cannot be reached",
            got=repository,
            want="a folder that exists, or a network connection to download it",
            hint="copy the folder here and give its path, or use a bundled model such as "
            "tiny-clip: encoderlab ls encoders",
        ) from error
