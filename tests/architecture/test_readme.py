"""Every command of the README and of the experiments exists and composes."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("experiments/**/README.md"))]


def commands():
    for page in PAGES:
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)  # environment variables
                if words:
                    yield pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)}"[:120])


COMMANDS = list(commands())


def test_pages_hold_commands():
    assert len([words for words in COMMANDS if words.values[0][:2] == ["python", "-m"]]) >= 5


@pytest.mark.parametrize("words", [param for param in COMMANDS if param.values[0][0] == "make"])
def test_make_targets_exist(words):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in words[1:]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(
    "words", [param for param in COMMANDS if param.values[0][:2] == ["python", "-m"] and "." in param.values[0][2]]
)
def test_commands_compose(words):
    from hydra import compose, initialize_config_dir

    module, overrides = words[2], [word for word in words[3:] if not word.startswith("-")]
    assert module.startswith("sempa_lightning.")
    name = module.removeprefix("sempa_lightning.")
    assert (ROOT / "src" / "sempa_lightning" / f"{name}.py").is_file()
    if not (ROOT / "conf" / f"{name}.yaml").is_file():  # plain arguments
        importlib.import_module(module).parser().parse_args(words[3:])
        return
    sweep = {"-m", "--multirun"} & set(words)
    if sweep:  # the first job of a sweep; the ends of an interval say nothing that a compose could refuse
        overrides = [override for override in overrides if "interval(" not in override]
        overrides = [re.sub(r"=([^\[{]*?),.*", r"=\1", override) for override in overrides]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        compose(name, overrides=overrides)
