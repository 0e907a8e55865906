"""What is typed: commands, flags, overrides, and YAML that a command line names."""

from random import Random

from tests.fuzz.cases import Case, Trial, kind
from tests.fuzz.mutate import INTERESTING_FLOATS, INTERESTING_INTS, INTERESTING_TEXTS, spoil_text

from encoderlab.cli.parser import all_keys
from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import Setting, iter_settings

# A command that, given nonsense, is over at once: no model, no data, no page.
AT_ONCE = ("ls", "search", "rerun", "features")
HYDRA_WORDS = (
    "--cfg", "job", "all", "hydra", "--info", "plugins", "searchpath", "defaults-tree", "config",
    "--resolve", "--package", "_global_", "--config-name", "nowhere", "--config-dir",
    "--config-path", "hydra.job.name=x", "hydra.verbose=true", "hydra/job_logging=default",
    "hydra.job.num=3", "hydra.searchpath=[file://x]", "hydra/sweeper=basic", "hydra/launcher=basic",
    "hydra.x.y=3", "hydra.mode=MULTIRUN", "hydra.run.dir=x", "hydra/help=default",
    "hydra.help.app_name=x",
)  # fmt: skip
SIGNS = ("", "", "", "", "+", "++", "~", "-", "---")


@kind("flags", 4)
def flags(case: Case) -> Trial:
    """A command with flags whose values are odd; only its configuration is asked for."""
    rng = case.rng
    command = COMMANDS[rng.choice(sorted(COMMANDS))]
    words = [command.name]
    settings = [s for s in iter_settings(command.settings) if s.flags and s.key != "verbose"]
    for setting in rng.sample(settings, min(len(settings), rng.choice((1, 1, 2, 4)))):
        flag = rng.choice(setting.flags)
        times = rng.choice((1, 1, 2, 3)) if setting.many else 1
        values = [_value(rng, setting) for _ in range(times)]
        if rng.random() < 0.1:
            near = (flag[:-1], flag + "x", flag.upper(), flag.replace("-", "_"), flag[1:])
            flag = rng.choice(near)
        if rng.random() < 0.3:
            words.append(f"{flag}={values[0]}")
        elif rng.random() < 0.95:
            words += [flag, *values]
        else:
            words.append(flag)
    return _shown(case, words)


@kind("overrides", 4)
def overrides(case: Case) -> Trial:
    """A command with overrides in and out of Hydra's grammar, and sweeps."""
    rng = case.rng
    command = COMMANDS[rng.choice(sorted(COMMANDS))]
    known = {one.key: one for one in iter_settings(command.settings)}
    words = [command.name]
    for _ in range(rng.choice((1, 1, 2, 3))):
        key = rng.choice(sorted(all_keys(command) - {"verbose"}))
        how = rng.random()
        if how < 0.15:
            key = rng.choice(
                (key[:-1], f"{key}.x", key.upper(), "x", "한글", f"{key}@x", f"x/{key}", "", ".")
            )
        value = _value(rng, known[key]) if key in known else _text(rng)
        if rng.random() < 0.25:
            value = rng.choice(
                (f"{value},{_text(rng)}", f"[{value}]", f"{{a:{value}}}", f"'{value}'",
                 f'"{value}"', f"${{{key}}}", "${now:%Y}", "${hydra:job.num}", "range(1,4)",
                 "choice(a,b)", "interval(0,1)", "glob(*)", "sort(3,1)", "null", "???", "_target_",
                 "int(x)", f"[{value}", f"{value}\\")
            )  # fmt: skip
        words.append(f"{rng.choice(SIGNS)}{key}={value}" if rng.random() < 0.95 else f"~{key}")
    if rng.random() < 0.25:
        words.append(rng.choice(("-m", "--multirun")))
    if rng.random() < 0.25:
        words += rng.sample(HYDRA_WORDS, rng.choice((1, 2)))
    rng.shuffle(words[1:])
    return _shown(case, words)


@kind("words", 2)
def words(case: Case) -> Trial:
    """Words that hardly make a command, and commands that run on nonsense."""
    rng = case.rng
    start = rng.choice(
        (*COMMANDS, "help", "completion", "--version", "--help", "-h", "", "rn", "TRAIN",
         "ls ", "x=1")
    )  # fmt: skip
    typed = [start] * (rng.random() < 0.97)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        typed.append(
            rng.choice((_text(rng), "--help", "--json", "--quiet", "--", "--show-config", "-k",
                        "-k=3", *HYDRA_WORDS, rng.choice(sorted(COMMANDS))))
        )  # fmt: skip
    if start in AT_ONCE and "-m" not in typed and "--multirun" not in typed:
        # A first bare word of `features` may say what to delete, in this folder here only.
        return Trial(words=_safe(typed), content=False, writes=(case.folder,))
    return _shown(case, typed)


@kind("yaml", 2)
def yaml(case: Case) -> Trial:
    """Configurations of the user's own, named by --config-name and --config-dir."""
    rng = case.rng
    command = COMMANDS[rng.choice(("train", "coral", "tokens", "compress", "search", "evaluate"))]
    settings = rng.sample(list(iter_settings(command.settings)), 3)
    text = rng.choice(("", "defaults:\n  - config\n  - _self_\n", "defaults: [schema, _self_]\n"))
    for setting in settings:
        if setting.key in ("output_dir", "output.dir", "data.store", "db", "verbose"):
            continue
        *outer, last = setting.key.split(".")
        for depth, name in enumerate(outer):
            text += "  " * depth + f"{name}:\n"
        text += "  " * len(outer) + f"{last}: {_value(rng, setting)}\n"
    text += rng.choice(
        ("", "", "", "x: &x [*x]\n", "y: !!python/object/apply:os.system ['touch ran']\n",
         "x: ${oc.env:HOME}\n", "x: ${x}\n", "x: ${nowhere.at.all}\n", "? [a, b]\n: c\n", "[" * 400,
         "hydra:\n  run: 3\n", "hydra:\n  sweeper: null\n", "seed: ${oc.decode:'['}\n",
         "seed: ???\n", "defaults: 3\n", "defaults:\n  - nowhere\n", "defaults:\n  - /etc/passwd\n",
         "defaults:\n  - optional x: y\n", "_target_: os.system\n", "1: 2\n", "? {}\n: 3\n",
         "- a\n", "hydra:\n  callbacks:\n    x:\n      _target_: tests.fuzz.kinds_words.called\n",
         "hydra:\n  sweeper:\n    _target_: tests.fuzz.kinds_words.called\n",
         "hydra:\n  launcher:\n    _target_: tests.fuzz.kinds_words.called\n",
         "hydra:\n  job:\n    env_set: {A: b}\n  mode: MULTIRUN\n")
    )  # fmt: skip
    plain = text.encode(errors="replace")
    case.put("own.yaml", spoil_text(rng, text) if rng.random() < 0.5 else plain)
    name = rng.choice(("own", "own", "own", "own.yaml", "../own", "nowhere", "/etc/passwd",
                       str(case.given / "own")))  # fmt: skip
    typed = [command.name, "--config-dir", str(case.given), "--config-name", name]
    if rng.random() < 0.1:
        typed[2] = rng.choice(("nowhere", "", "/etc/passwd", str(case.given / "own.yaml")))
    if rng.random() < 0.15:
        typed += ["-m", "seed=1,2"]
    return _shown(case, typed)


def called(*args: object, **given: object) -> None:
    """What a configuration must not be able to call."""
    raise AssertionError("a configuration has called code")


def _shown(case: Case, typed: list[str]) -> Trial:
    """The command line up to where the work would begin."""
    if typed and typed[0] in COMMANDS:
        at = typed.index("--") if "--" in typed else len(typed)
        typed = [*typed[:at], "--show-config", *typed[at:]]
    return Trial(words=_safe(typed), content=False, writes=(case.folder,))


def _safe(typed: list[str]) -> list[str]:
    """No NUL and no lone surrogate: an operating system lets neither through to a program."""
    return [w.replace("\x00", "").encode("utf-8", "replace").decode() for w in typed]


def _text(rng: Random) -> str:
    return str(rng.choice(INTERESTING_TEXTS))


def _value(rng: Random, setting: Setting) -> str:
    """A right value now and then, else an odd one of the right kind or of any."""
    how = rng.random()
    if setting.choices and how < 0.3:
        return str(rng.choice([*setting.choices]))
    if how < 0.3:
        return str(rng.choice((1, 2, 0.5, "true", "a")))
    if how < 0.6 and setting.item in (int, float):
        return str(rng.choice((*INTERESTING_INTS[:-1], *INTERESTING_FLOATS)))
    if how < 0.62:
        return "9" * 5000
    return _text(rng)
