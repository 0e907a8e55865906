"""Settings are composed by Hydra and handed, typed and checked, to the job: once, or per sweep job.

The only module that knows a `cfg`. Hydra makes no folders, changes no directory and configures no
logging here: a run's folder is the business of `reports`.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from encoderlab.cli import errors
from encoderlab.cli.parser import (
    GROUPS,
    ParsedArgs,
    quoted,
    unknown_setting,
)
from encoderlab.cli.sweep import (
    LOG_FOLDER,
    SUBFOLDER,
    JobOutcome,
    Sweep,
    has_own_logs,
    remove_stale_jobs,
    report_sweep,
)
from encoderlab.core import extensions, progress
from encoderlab.core.commands import COMMANDS, Command
from encoderlab.core.common_settings import TALK
from encoderlab.core.distributed import current_rank, is_secondary_rank
from encoderlab.core.project import (
    VARIABLE,
    configured,
    is_project,
    load_config,
    read_yaml,
)
from encoderlab.core.settings import (
    Setting,
    check_effect,
    iter_settings,
    output_folder,
    value_at,
)
from encoderlab.errors import EncoderLabError, UsageError, unknown

LAUNCHER = ("hydra/launcher", "hydra.launcher")
OWN_CONFIGS = "configs"  # a folder of this name in the current one is searched without being asked


def run(command: Command, words: ParsedArgs, command_line: list[str]) -> int:
    """Composes the configuration and does the job, or one job per combination in a sweep.

    Raises:
        EncoderLabError: what was asked is wrong, or the work failed.
    """
    sweep = Sweep() if words.multirun else None
    typed = frozenset(word.lstrip("+").partition("=")[0] for word in words.overrides)
    job = _Job(command.name, words.show_config, sweep, tuple(command_line), typed)
    with ExitStack() as stack:
        flags = list(words.hydra_flags)
        looks_only = any(flag in flags for flag in ("--cfg", "-c", "--info", "-i"))
        if looks_only and words.multirun:
            raise UsageError(
                "--cfg and --info show one configuration; --multirun makes many",
                hint="leave one of them out",
            )
        if (
            not any(flag in flags for flag in ("--config-dir", "-cd"))
            and Path(OWN_CONFIGS).is_dir()
        ):
            flags += ["--config-dir", OWN_CONFIGS]
        flags, words = _with_project(command, flags, words, stack)
        if words.multirun:
            flags.append("--multirun")
            if not words.show_config and not _is_elsewhere(words.overrides):
                _require_a_device(words.overrides)
        if any(flag in flags for flag in ("--config-name", "-cn")):
            words = replace(words, overrides=_over_own_yaml(command, words.overrides))
        if words.show_config:
            # To look at configurations needs no cluster.
            here = [w for w in words.overrides if not w.lstrip("+").startswith(LAUNCHER)]
            words = replace(words, overrides=here)
        overrides = _quiet_hydra(command, words.overrides, sweep=words.multirun)
        if words.multirun and (words.show_config or not command.leaves_folder):
            if _is_elsewhere(words.overrides):
                # The jobs' logs are there, and another machine does not see our temporary files.
                folder = output_folder(f"sweep-{command.name}")()
            else:
                # Hydra keeps a record of a sweep; nothing is to stay of one that only looks.
                folder = stack.enter_context(tempfile.TemporaryDirectory())
            overrides.append(f"hydra.sweep.dir={quoted(folder)}")
        _hydra(command, job, [*flags, *overrides])
    return job.exit_code


def _with_project(
    command: Command, flags: list[str], words: ParsedArgs, stack: ExitStack
) -> tuple[list[str], ParsedArgs]:
    """Takes a project's parts out of the YAML that `--config-name` names: Hydra composes settings
    of commands, and knows neither data sets nor names of models.

    The project's file holds for this process and those that it starts; its defaults come before
    what was typed.
    """
    file = _own_yaml(flags)
    content = read_yaml(file) if file is not None else {}
    if file is not None and is_project(content):
        stack.enter_context(configured(file.absolute()))
        project = load_config(file)
        content = dict(project.rest)
        flags = _without_config(flags)
        if content:
            flags += _written_for_hydra(content, file.stem, stack)
    elif os.environ.get(VARIABLE):
        project = load_config()
        if project.rest:
            raise UsageError(
                f"the file that {VARIABLE} names has settings of a command",
                got=", ".join(map(str, project.rest)),
                want="data, models and defaults",
                hint="name a file with settings by --config-name",
            )
    else:
        return flags, words
    keys = {setting.key for setting in iter_settings(command.settings)}
    defaults = []
    for name, value in project.defaults.items():
        key = name if name in keys else f"hardware.{name}"
        # The folder of all commands is the business of `output_folder`; what the YAML sets for
        # this command wins.
        if name != "output_dir" and key in keys and key.partition(".")[0] not in content:
            defaults.append(f"{key}={quoted(value) if isinstance(value, str) else value}")
    return flags, replace(words, overrides=[*defaults, *words.overrides])


def _written_for_hydra(content: dict[str, Any], name: str, stack: ExitStack) -> list[str]:
    """The flags by which Hydra finds `content` as a YAML, for the time of `stack`."""
    import yaml

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    text = yaml.safe_dump(content, allow_unicode=True)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return ["--config-dir", str(folder), "--config-name", name]


def _own_yaml(flags: list[str]) -> Path | None:
    """The file that --config-name means in the folder of --config-dir."""
    value = dict(itertools.pairwise(flags))
    name = value.get("--config-name") or value.get("-cn")
    folder = value.get("--config-dir") or value.get("-cd")
    if not name or not folder:
        return None
    file = Path(folder) / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    return file if file.is_file() else None


def _without_config(flags: list[str]) -> list[str]:
    kept, skip = [], False
    for flag in flags:
        if flag in ("--config-name", "-cn", "--config-dir", "-cd"):
            skip = True
        elif skip:
            skip = False
        else:
            kept.append(flag)
    return kept


def _require_a_device(typed: list[str]) -> None:
    """Refuses a sweep over devices none of which is on this machine: once, not in every job.

    Raises:
        MissingError, UsageError: as `choose_device`, with all devices of the sweep.
    """
    swept = [word.partition("=")[2] for word in typed if word.lstrip("+").startswith("device=")]
    devices = [name.strip().strip("'\"") for word in swept[-1:] for name in word.split(",")]
    if len(devices) < 2:
        return
    from encoderlab.encoders.hardware import choose_device

    if "auto" in devices:
        return
    for name in devices:
        try:
            choose_device(name)
            return
        except EncoderLabError as error:
            refused = error
    raise type(refused)(refused.what, got=", ".join(devices), want=refused.want, hint=refused.hint)


def _is_elsewhere(typed: list[str]) -> bool:
    """Whether the jobs of a sweep run on other machines, or as if they did."""
    return any(word.startswith(("hydra/launcher=submitit", "hydra/launcher=ray")) for word in typed)


def _quiet_hydra(command: Command, typed: list[str], *, sweep: bool) -> list[str]:
    """The overrides that keep Hydra from littering, before those typed, which win."""
    ours = {
        "hydra.run.dir": ".",
        "hydra.output_subdir": "null",
        "hydra.job.chdir": "false",
        "hydra/job_logging": "none",
        "hydra/hydra_logging": "none",
    }
    if sweep:
        folders = [
            one
            for one in iter_settings(command.settings)
            if one.key in ("output_dir", "output.dir") and one.default
        ]
        # A YAML of the user's own may leave the key out.
        chosen = [f"'${{oc.select:{one.key},{quoted(one.default)[1:-1]}}}'" for one in folders]
        ours |= {
            "hydra.sweep.dir": chosen[0] if chosen else "outputs",
            "hydra.sweep.subdir": SUBFOLDER + "${hydra.job.num}",
        }
    given = {word.lstrip("+~").partition("=")[0] for word in typed}
    return [f"{key}={value}" for key, value in ours.items() if key not in given] + typed


def _over_own_yaml(command: Command, typed: list[str]) -> list[str]:
    """Over a YAML that does not build on ours, a setting is added where it is not named yet."""
    keys = {setting.key for setting in iter_settings(command.settings)}
    return [f"++{word}" if word.partition("=")[0] in keys else word for word in typed]


def _hydra(command: Command, job: _Job, argv: list[str]) -> None:
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig

    folder = GROUPS / command.name
    store = ConfigStore.instance()
    store.store(name="schema", node=command.settings)
    packaged = folder.is_dir()
    if not packaged:
        store.store(name="config", node=command.settings)

    composed: list[Any] = []

    def task(cfg: Any) -> None:
        # A single job is done after Hydra: a launcher of processes that finds Hydra at work would
        # start its copies with Hydra's words instead of the user's.
        if job.sweep is not None:
            job(cfg)
        else:
            composed.append(cfg)

    main = hydra.main(
        version_base="1.3", config_path=str(folder) if packaged else None, config_name="config"
    )
    with _arguments([f"encoderlab {command.name}", *argv]):
        broken: Exception | None = None
        try:
            with _sweep_folder() as folders, _without_callbacks():
                main(task)()
        except EncoderLabError:
            raise
        except Exception as error:
            if errors.is_launcher_error(error):
                broken = error
            else:
                known = errors.explain_composition_error(error, command)
                if known is None:
                    raise
                raise known from error
        finally:
            if not packaged:
                store.repo.pop("config.yaml", None)
    if composed:
        HydraConfig.instance().cfg = None
        job(composed[0])
    if job.failure is not None:
        raise job.failure
    if job.sweep is not None and folders:
        outcomes = job.sweep.collect(folders[0])
        if broken is None:
            remove_stale_jobs(folders[0], command.name, len(outcomes))
        report_sweep(outcomes, folders[0], broken)
    elif broken is not None:
        raise broken


@contextmanager
def _sweep_folder() -> Iterator[list[Path]]:
    """Fills a list with the folder of the sweep that is run in the block, if one is: Hydra itself
    tells it only to the jobs."""
    from hydra.core.plugins import Plugins

    plugins, found = Plugins.instance(), list[Path]()
    instantiate = plugins.instantiate_sweeper

    def seen(**given: Any) -> Any:
        vars(plugins).pop("instantiate_sweeper")  # before the plugins travel to the jobs
        chosen = given["config"].hydra
        found.append(Path(chosen.sweep.dir))
        if "submitit" in str(chosen.launcher.get("_target_")):
            progress.note(f"the jobs print to files of their own, in {found[0] / LOG_FOLDER}")
        return instantiate(**given)

    vars(plugins)["instantiate_sweeper"] = seen
    try:
        yield found
    finally:
        vars(plugins).pop("instantiate_sweeper", None)


@contextmanager
def _without_callbacks() -> Iterator[None]:
    """Hydra makes an object of whatever class `hydra.callbacks` names: a YAML that came with some
    data would run code."""
    import hydra.core.plugins  # takes the same function for itself, for what it finds by name
    import hydra.utils

    def refuse(params: Any, **_: Any) -> None:
        raise UsageError(
            "the configuration names code, which none may",
            got=f"callbacks: {params.get('_target_', params)}",
            want="settings only",
            hint="take the callbacks out of the hydra part of the configuration",
        )

    make, hydra.utils.instantiate = hydra.utils.instantiate, refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        hydra.utils.instantiate = make


@contextmanager
def _arguments(argv: list[str]) -> Any:
    """Hydra reads `sys.argv`, and shows tracebacks of its own unless asked to raise."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = argv
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


@dataclass
class _Job:
    """What Hydra calls with each configuration. Plain data: a launcher may send it elsewhere."""

    command_name: str
    show_config: bool
    sweep: Sweep | None
    command_line: tuple[str, ...]
    typed: frozenset[str]
    failure: Exception | None = None  # of the one job of no sweep
    exit_code: int = 0  # of its answer

    @property
    def command(self) -> Command:
        extensions.load()  # in a process of its own, nobody has yet
        return COMMANDS[self.command_name]

    def __call__(self, cfg: Any) -> None:
        """Does one job. Keeps what it raises: Hydra would print a line of its own about it."""
        if self.sweep is not None:
            self._of_sweep(cfg, self.sweep)
            return
        try:
            self._once(cfg)
        except Exception as error:
            self.failure = errors.explain_configuration_error(error, self.command) or error

    def _of_sweep(self, cfg: Any, sweep: Sweep) -> None:
        from hydra.core.hydra_config import HydraConfig

        about = HydraConfig.get()
        overrides = [
            word.lstrip("+")
            for word in about.overrides.task
            if not word.lstrip("+").startswith(("hydra", *(f"{key}=" for key in TALK)))
        ]
        where = f"job {about.job.num} ({' '.join(overrides)})"
        folder = Path(about.runtime.output_dir) if self.command.leaves_folder else None
        said, failure = None, None
        try:
            said = self._once(cfg, where, folder)
        except Exception as error:
            known = errors.explain_configuration_error(error, self.command) or error
            errors.report_error(known, where=f"{where}: ", verbose=bool(cfg.get("verbose")))
            failure = errors.one_line(known)
        elsewhere = said if has_own_logs() else None
        sweep.note(JobOutcome(about.job.num, where, failure, elsewhere), Path(about.sweep.dir))

    def _once(self, cfg: Any, where: str = "", folder: Path | None = None) -> str | None:
        """Does the work and prints the answer; gives what it printed, if it is the one to."""
        settings = _typed(self.command, cfg, self.typed)
        if self.show_config:
            return None if is_secondary_rank() else _answer(_configuration(settings, self.command))
        _set_up_process(settings)
        if where:
            _refuse_processes(settings)
            progress.note(where)
        with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
            from encoderlab.core.runner import run_command

            done = run_command(self.command, settings, self.command_line, folder=folder)
        self.exit_code = getattr(done.result, "exit_code", 0)
        if is_secondary_rank():
            return None
        if settings.json:
            answer = done.result.to_json()
            if where:
                answer = {"job": where, "folder": done.folder, "result": answer}
            indent = None if where else 2
            return _answer(json.dumps(done.plain(answer), ensure_ascii=False, indent=indent))
        said = done.result.to_text()
        # In one piece, for jobs that print side by side.
        _answer(f"{where}\n{said}" if where else said)
        if done.folder is not None:
            progress.note(f"run: {done.folder}")
        return f"{where}\n{said}"


def _refuse_processes(settings: Any) -> None:
    """A job of a sweep cannot start copies of itself: they would start the sweep."""
    devices = getattr(getattr(settings, "hardware", settings), "devices", None)
    if devices is not None and devices > 1 and not current_rank().external:
        raise UsageError(
            "a job of a sweep has one device",
            got=f"devices={devices}",
            want="no --devices with --multirun",
            hint="run the jobs one by one, or as many at once: hydra/launcher=joblib",
        )


def _typed(command: Command, cfg: Any, typed: Collection[str]) -> Any:
    """The settings dataclass of a configuration, checked against each setting's limits.

    Args:
        typed: keys that the user gave a value, be it the default.
    """
    from omegaconf import OmegaConf

    schema = OmegaConf.structured(command.settings)
    _check_keys(cfg, schema, command)
    merged = OmegaConf.merge(schema, cfg)
    settings = OmegaConf.to_object(merged)
    for setting in iter_settings(command.settings):
        value = value_at(settings, setting.key)
        for one in value if isinstance(value, list) else [value]:
            _check(setting, one, command)
    check_effect(settings, typed)
    return settings


def _check_keys(cfg: Any, schema: Any, command: Command, prefix: str = "") -> None:
    """A `+key=value` or a YAML without our schema may bring keys that nobody reads."""
    from omegaconf import DictConfig

    for key, value in cfg.items_ex(resolve=False):
        if key not in schema:
            raise unknown_setting(f"{prefix}{key}", command)
        inner = schema._get_node(key)
        if isinstance(inner, DictConfig) and isinstance(value, DictConfig):
            _check_keys(value, inner, command, f"{prefix}{key}.")


def _check(setting: Setting, value: Any, command: Command) -> None:
    if value is None:
        return
    name = setting.flags[0] if setting.flags else setting.key
    if setting.choices and value not in setting.choices:
        raise unknown(
            f"value for {name}", str(value), setting.choices, f"encoderlab {command.name} --help"
        )
    too_small = setting.least is not None and value < setting.least
    if too_small or (isinstance(value, float) and value != value):
        least = "a number" if setting.least is None else f"at least {setting.least:g}"
        raise UsageError(
            f"{name} is too small" if too_small else f"{name} is no number", got=value, want=least
        )


def _answer(said: str) -> str:
    # A byte of a file name that is not UTF-8 becomes an escape, as JSON needs it.
    sys.stdout.write(said.encode(errors="backslashreplace").decode() + "\n")
    sys.stdout.flush()
    return said


def _configuration(settings: Any, command: Command) -> str:
    from omegaconf import OmegaConf

    if settings.json:
        plain = OmegaConf.to_container(OmegaConf.structured(settings))
        return json.dumps({"command": command.name, "settings": plain}, ensure_ascii=False)
    return OmegaConf.to_yaml(OmegaConf.structured(settings)).rstrip("\n")


def _set_up_process(settings: Any) -> None:
    """What holds for the whole process: loudness, network, seed."""
    progress.configure(quiet=settings.quiet, verbose=settings.verbose)
    if settings.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if not settings.verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("LANCE_LOG", "error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
    if settings.quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        warnings.filterwarnings("ignore")
    random.seed(settings.seed)
