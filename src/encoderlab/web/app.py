"""`encoderlab app`: serves the page until it is interrupted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from encoderlab.core.progress import note
from encoderlab.core.results import Block, Result
from encoderlab.core.spec import takes
from encoderlab.errors import MissingError, UsageError
from encoderlab.workbench.settings import App

AUTH_VARIABLE = "ENCODERLAB_APP_AUTH"
QUEUE_LENGTH = 200
UPLOADS = "visitors"


@dataclass(frozen=True)
class AppResult(Result):
    """The page was served, and is closed."""

    address: str

    def blocks(self) -> list[Block]:
        """One line."""
        return [f"closed: {self.address}"]


@takes(App)
def run(settings: App, out: Path | None = None) -> AppResult:
    """Serves the page until it is interrupted; gives its address."""
    if find_spec("gradio") is None:
        raise MissingError(
            "the web page needs Gradio, which is not installed",
            hint='install it: pip install "encoderlab[web]"',
        )
    from encoderlab.encoders.hardware import choose_device

    choose_device(settings.device)
    login = _login(settings.auth or os.environ.get(AUTH_VARIABLE))
    port = _free_port(settings.host, settings.port)
    home = out or Path("outputs/app")
    root = _uploads_folder(home)
    try:
        with _served(settings, root, home, port, login) as address:
            note(f"EncoderLab is open at {address} (Ctrl-C closes it)")
            with contextlib.suppress(KeyboardInterrupt):
                _wait_for_interrupt()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return AppResult(address)


@contextlib.contextmanager
def _served(
    settings: App, root: Path, home: Path, port: int, login: tuple[str, str] | None
) -> Iterator[str]:
    """Serves the page while the block runs; yields its address."""
    _set_up_gradio(root)

    from starlette.middleware import Middleware

    from encoderlab.data.vlm_dataset import SAMPLE_DATA
    from encoderlab.encoders.model_cache import share as share_models
    from encoderlab.retrieval.image_index import Index
    from encoderlab.web import page
    from encoderlab.web.choices import LOOPBACK, model_choices
    from encoderlab.web.i18n import translations
    from encoderlab.web.jobs import JobRunner
    from encoderlab.web.security import SecurityMiddleware
    from encoderlab.web.user_sessions import UserSessions

    same = ("host", "share", "encoders", "llms", "vlms", "data_root", "db", "device",
            "features_dir", "seed", "max_upload_mb", "max_images")  # fmt: skip
    offer = model_choices(
        any_model=settings.allow_any_model, **{name: getattr(settings, name) for name in same}
    )
    if offer.db is not None:
        Index.open(offer.db)  # raises now, not at a visitor's first search
    visitors = UserSessions(root, settings.max_visitor_mb)
    _warn(offer.alone, login is not None)
    share_models(settings.max_model_gb * 1_000_000_000)
    runner = JobRunner(offer, visitors, home)
    blocks = page.build(runner)
    blocks.queue(max_size=QUEUE_LENGTH, api_open=False)
    hosts = LOOPBACK if offer.alone else ()
    security = Middleware(SecurityMiddleware, visitors=visitors, hosts=hosts)
    try:
        _, local, public = blocks.launch(
            server_name=settings.host,
            server_port=port,
            share=settings.share,
            auth=login,
            i18n=translations(),
            allowed_paths=[str(SAMPLE_DATA)],
            max_file_size=f"{offer.max_upload_mb}mb",
            app_kwargs={"middleware": [security]},
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=["settings"],
            **page.theme_options(),
        )
        if settings.share and not public:
            note("no public address could be made: Gradio's servers were not reached")
        visitors.keep_what_is_there()
        threading.Thread(target=runner.run_examples, daemon=True).start()
        yield public or local.rstrip("/").replace("0.0.0.0", socket.gethostname())
    finally:
        runner.close()
        blocks.close(verbose=False)
        share_models(0)


def _set_up_gradio(root: Path) -> None:
    """Sets the environment variables that Gradio reads when it is imported."""
    os.environ["GRADIO_TEMP_DIR"] = str(root)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # By default it builds a table of the last 10,000 events after every event.
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "100"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1000000"
    # Gradio requests its own page at launch, which must not go through a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [os.environ.get(name), "localhost", "127.0.0.1"]
        os.environ[name] = ",".join(filter(None, hosts))


def _login(auth: str | None) -> tuple[str, str] | None:
    if not auth:
        return None
    user, colon, password = auth.partition(":")
    if not (user and colon and password):
        raise UsageError(
            "the login is no user and password",
            got=auth if not colon else f"{user}:",
            want="user:password",
        )
    return user, password


def _free_port(host: str, port: int) -> int:
    """The port, or any free one for 0."""
    if port > 65535:
        raise UsageError("there is no such port", got=port, want="0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                "the page cannot be opened at this address",
                got=f"{host}:{port}: {error.strerror or error}",
                want="a free port and an address of this machine",
                hint="another port: --port 7861, or --port 0 for any that is free",
            ) from error
        return int(probe.getsockname()[1])


def _uploads_folder(home: Path) -> Path:
    """This process's empty folder for uploads; removes those of processes that have ended."""
    home.mkdir(parents=True, exist_ok=True)
    for old in home.glob(f"{UPLOADS}-*"):
        number = old.name.rpartition("-")[2]
        if number.isdigit() and not _is_running(int(number)):
            shutil.rmtree(old, ignore_errors=True)
    folder = (home / f"{UPLOADS}-{os.getpid()}").resolve()
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _warn(alone: bool, has_login: bool) -> None:
    if alone:
        note("only this machine can reach the page; --host 0.0.0.0 --auth user:password opens it")
    elif not has_login:
        note(
            "WARNING: whoever reaches this address can use this machine's time and memory: add "
            "--auth user:password, and put HTTPS before it (see docs/en/app.md)"
        )
    else:
        note("without HTTPS the password is sent unencrypted (see docs/en/app.md)")


def _wait_for_interrupt() -> None:
    ended = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    ended.wait()
