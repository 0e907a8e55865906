"""Hydra composes the settings of a job; the job gets them typed and checked, and is done.

Only this module and `sweep` know a `cfg`. Hydra is used through its compose API: it makes no
folders, changes no directory and configures no logging here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
import warnings
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.cli import errors
from encoderlab.cli.parser import GROUPS, ParsedArgs, quoted
from encoderlab.core import progress
from encoderlab.core.commands import COMMANDS, Command
from encoderlab.core.distributed import current_rank, is_secondary_rank
from encoderlab.core.project import VARIABLE, configured, is_project, load_config
from encoderlab.core.results import to_plain
from encoderlab.core.settings import check_effect, iter_settings, value_at
from encoderlab.errors import MissingError, UsageError

OWN_CONFIGS = "configs"  # a folder of this name in the current one is searched without being asked
OWN = "encoderlab_own"  # the name by which Hydra finds what the user's own YAML holds


def run(command: Command, args: ParsedArgs, command_line: list[str]) -> int:
    """Does the job of a command line, or shows its configuration; gives the exit code."""
    import hydra

    with ExitStack() as stack:
        with errors.explained(command):
            name, overrides = prepare(command, args, stack)
            with initialize(command):
                cfg = hydra.compose(name, overrides, return_hydra_config=True)
            refuse_code(cfg)
        if args.view:
            _answer(_hydras_view(cfg, args.view))
        else:
            job = Job(command.name, command_line, typed_keys(args), args.show_config)
            job.do(cfg)
            return job.exit_code
    return 0


def initialize(command: Command) -> Any:
    """Hydra with the command's packaged configuration, for the time of a `with` block."""
    import hydra

    folder = GROUPS / command.file_name
    folder = folder if folder.is_dir() else GROUPS
    return hydra.initialize_config_dir(str(folder), job_name=command.file_name, version_base="1.3")


def prepare(command: Command, args: ParsedArgs, stack: ExitStack) -> tuple[str, list[str]]:
    """(name of the configuration, overrides) for Hydra; `stack` holds the project's variable."""
    from hydra.core.config_store import ConfigStore

    folder = Path(args.config_dir or OWN_CONFIGS)
    if args.config_dir is not None and not folder.is_dir():
        raise MissingError("no such folder", got=args.config_dir, hint="check --config-dir")
    file, name = None, args.config_name
    if name is not None:
        file = folder / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
        if not file.is_file():
            want = "a YAML of that name in configs/ or in --config-dir"
            raise MissingError("no such configuration", got=name, want=want)
    content, defaults = _own_settings(command, file, stack)
    ConfigStore.instance().store("schema", command.settings)
    ConfigStore.instance().store(OWN, content)
    ours = {
        "hydra.run.dir": ".",
        "hydra.output_subdir": "null",
        "hydra.job.chdir": "false",
        "hydra/job_logging": "none",
        "hydra/hydra_logging": "none",
        "hydra.sweep.dir": "outputs",
        "hydra.sweep.subdir": "multirun-${hydra.job.num}",
    }
    for setting in iter_settings(command.settings):
        if setting.key in ("output_dir", "output.dir") and setting.default:
            # A YAML of the user's own may leave the key out.
            default = quoted(setting.default)[1:-1]
            ours["hydra.sweep.dir"] = f"'${{oc.select:{setting.key},{default}}}'"
    if folder.is_dir():
        ours["hydra.searchpath"] = f"[{quoted(f'file://{folder.absolute()}')}]"
    quiet = [f"{key}={value}" for key, value in ours.items() if key not in typed_keys(args)]
    return OWN if content else "config", [*quiet, *defaults, *args.overrides]


def typed_keys(args: ParsedArgs) -> frozenset[str]:
    """The keys that the user gave a value, be it the default."""
    return frozenset(word.lstrip("+").partition("=")[0] for word in args.overrides)


def _own_settings(
    command: Command, file: Path | None, stack: ExitStack
) -> tuple[dict[str, Any], list[str]]:
    """(settings in the YAML that --config-name means, overrides by the project's defaults)."""
    # Hydra composes settings of commands, and knows neither data sets nor names of models: a
    # project's parts are taken out. The project's file holds for this process and those it starts.
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(OmegaConf.load(file)) if file else {}
    if not isinstance(content, dict):
        raise UsageError("a configuration is no table", got=str(file), want="lines `key: value`")
    if file and is_project(content):
        project = load_config(file)
        stack.enter_context(configured(file.absolute()))
        content = dict(project.rest)
    elif (project := load_config()).rest:
        what = f"the file that {VARIABLE} names has settings of a command"
        want = "data, models and defaults; a file with settings is named by --config-name"
        raise UsageError(what, got=", ".join(map(str, project.rest)), want=want)
    keys = {setting.key for setting in iter_settings(command.settings)}
    defaults = []
    for name, value in project.defaults.items():
        key = name if name in keys else f"hardware.{name}"
        # The folder of all commands is the business of `output_folder`; what the YAML sets for
        # this command wins.
        if name != "output_dir" and key in keys and key.partition(".")[0] not in content:
            defaults.append(f"++{key}={quoted(value) if isinstance(value, str) else value}")
    return content, defaults


def refuse_code(cfg: Any) -> None:
    """Hydra makes objects of the classes that its part of the configuration names: a YAML that
    came with some data would run code.

    Raises:
        UsageError: there is another class than Hydra's own sweepers and launchers.
    """
    from hydra.core.plugins import Plugins

    named = {part: (cfg.hydra[part] or {}).get("_target_") for part in ("sweeper", "launcher")}
    code = [
        str(name) for name in named.values() if not Plugins.is_in_toplevel_plugins_module(str(name))
    ]
    if code or cfg.hydra.callbacks:
        raise UsageError(
            "the configuration names code to run, which is not allowed",
            got=", ".join(code) or str(cfg.hydra.callbacks),
            want="settings only, and hydra/launcher=NAME or hydra/sweeper=NAME",
        )


@dataclass
class Job:
    """The work to do with a configuration. Plain data: a launcher may send it to another machine.

    Args:
        command: the command's name.
        command_line: what was typed, for the record of the run.
        typed: keys that count as given even with their default value.
        show_config: whether the settings are only to be printed.
        exit_code: that of the result, once it is there.
    """

    command: str
    command_line: list[str]
    typed: frozenset[str]
    show_config: bool
    exit_code: int = 0

    def do(self, cfg: Any, where: str = "", folder: Path | None = None) -> str | None:
        """Runs the job and returns its printed text, or None if another process prints."""
        # `where` is the job of a sweep in words, `folder` replaces the run folder that the settings
        # name.
        command = COMMANDS[self.command]
        settings = self._settings(command, cfg)
        if self.show_config:
            return None if is_secondary_rank() else _answer(_shown(command, settings))
        _set_up_process(settings)
        if where:
            _refuse_processes(settings)
            progress.note(where)
        elif command.leaves_folder:
            progress.note(f"{command.name} …")  # importing torch can take many seconds
        with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
            from encoderlab.core.runner import run_command

            done = run_command(command, settings, self.command_line, folder=folder)
        self.exit_code = getattr(done.result, "exit_code", 0)
        if is_secondary_rank():
            return None
        if settings.json:
            answer = done.result.to_json()
            if where:
                answer = {"job": where, "folder": done.folder, "result": answer}
            indent = None if where else 2
            return _answer(json.dumps(to_plain(answer), ensure_ascii=False, indent=indent))
        text = done.result.to_text()
        printed = _answer(f"{where}\n{text}" if where else text)
        if done.folder is not None:
            progress.note(f"run: {done.folder}")
        return printed

    def _settings(self, command: Command, cfg: Any) -> Any:
        from omegaconf import OmegaConf

        with errors.explained(command):
            settings = OmegaConf.to_object(OmegaConf.merge(command.settings, _without_hydra(cfg)))
        for setting in iter_settings(command.settings):
            see = f"encoderlab {command.name} --help"
            setting.check_limits(value_at(settings, setting.key), see)
        check_effect(settings, self.typed)
        return settings


def _refuse_processes(settings: Any) -> None:
    """A job of a sweep cannot start copies of itself: they would start the sweep."""
    devices = getattr(getattr(settings, "hardware", settings), "devices", None)
    if devices is not None and devices > 1 and not current_rank().external:
        want = "no --devices with --multirun; for jobs side by side, hydra/launcher=joblib"
        raise UsageError("a job of a sweep has one device", got=f"devices={devices}", want=want)


def _answer(text: str) -> str:
    # A byte of a file name that is not UTF-8 becomes an escape, as JSON needs it.
    printable = text.encode(errors="backslashreplace").decode()
    # With its end of line in one write: jobs side by side share stdout, which may be unbuffered.
    print(printable + "\n", end="", flush=True)
    return text


def _shown(command: Command, settings: Any) -> str:
    from omegaconf import OmegaConf

    if settings.json:
        plain = {"command": command.name, "settings": dataclasses.asdict(settings)}
        return json.dumps(plain, ensure_ascii=False)
    return OmegaConf.to_yaml(OmegaConf.structured(settings)).rstrip("\n")


def _without_hydra(cfg: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])


def _hydras_view(cfg: Any, view: str) -> str:
    """What --cfg and --info show."""
    from hydra.core.plugins import Plugins
    from omegaconf import OmegaConf

    job, runtime = _without_hydra(cfg), cfg.hydra.runtime
    plugins = sorted(plugin.__name__ for plugin in Plugins.instance().discover())
    views = {"all": cfg, "config": job, "job": job, "hydra": OmegaConf.masked_copy(cfg, ["hydra"]),
             "defaults": runtime.choices, "plugins": plugins,
             "searchpath": runtime.config_sources}  # fmt: skip
    return OmegaConf.to_yaml(views[view]).rstrip("\n")


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
