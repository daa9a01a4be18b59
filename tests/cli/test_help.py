"""Promise: help is quick, because it imports the settings of the chosen command and neither torch nor timm."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from bigr_features.cli import main
from bigr_features.cli.main import COMMANDS, _named

HEAVY = {"torch", "timm", "torchvision", "sklearn", "scipy", "matplotlib", "datasets", "pandas", "pyarrow", "faiss", "accelerate", "PIL"}
# every command in one process, since a fresh interpreter costs more than the help
PROGRAM = """
import contextlib, io, sys
sys.argv = ["bigr", "--help"]
from bigr_features.cli import main
for name in [[], *([name] for name in sys.orig_argv[-1].split(","))]:
    before = set(sys.modules)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([*name, "--help"])
    assert "usage: bigr" in out.getvalue(), name
    print(*name, *({module.partition(".")[0] for module in sys.modules} & HEAVY))
"""


def test_help_of_no_command_imports_torch():
    program = PROGRAM.replace("HEAVY", repr(HEAVY))
    done = subprocess.run([sys.executable, "-c", program, ",".join(COMMANDS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["", *COMMANDS]


def test_a_command_imports_no_other_command():
    program = """
import contextlib, sys
sys.argv = ["bigr", "--help"]
from bigr_features.cli import main
with contextlib.suppress(SystemExit):
    main(["probe", "--help"])
print(*(name for name in sys.modules if name.startswith("bigr_features.")), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    imported = set(done.stderr.split())
    assert "bigr_features.cli.probe" in imported
    assert (
        not {"bigr_features.cli.plot", "bigr_features.cli.gallery", "bigr_features.cli.drawing_options", "bigr_features.train"} & imported
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_function_that_it_names(name):
    settings, function = map(_named, COMMANDS[name])
    assert dataclasses.is_dataclass(settings)
    assert callable(function)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_every_option_by_a_noun_or_a_verb(name, capsys):
    """A text that begins with "Of" is half a sentence: the option's name is not read with it."""
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert not ended.value.code
    documented = ""
    for kind in _named(COMMANDS[name][0]).__mro__:
        documented += kind.__doc__ or ""
    described = dict(re.findall(r"^ {4}(\w[\w, ]*) : [^\n]+\n {8}([^\n]+)", documented, flags=re.M))
    options = {field.name for field in dataclasses.fields(_named(COMMANDS[name][0]))}
    assert options <= {part for names in described for part in names.split(", ")}, "an option without a text"
    assert [text for text in described.values() if text.startswith(("Of ", "For ", "With "))] == []
