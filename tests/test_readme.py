"""The README tells the truth: its commands, its Python, its picture of the house."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What the tree says of things that have no docstring to say it themselves.
NOTES = {
    "requirements.txt": "What a Space installs",
    "checkpoints/": "The bundled checkpoint; others put here are found by name",
    "tests/": "Mirrors mmapp; tests/browser walks through the page in Chromium",
    ".ci/run": "The tests on a clean checkout, with a browser required",
}


def blocks(language: str, below: str) -> list[str]:
    """The code blocks of a language below a heading."""
    section = re.split(rf"^## {re.escape(below)}$", README, flags=re.M)[1]
    section = re.split(r"^## ", section, flags=re.M)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.M | re.S)


def tree() -> str:
    """The house as it stands: every module with the first sentence of its docstring."""
    lines = [_line(0, "app.py", _sentence(ROOT / "app.py")), "mmapp/"]
    folders = sorted({path.parent for path in (ROOT / "mmapp").rglob("*.py")})
    for folder in folders:
        modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
        depth = len(folder.relative_to(ROOT).parts)
        if depth > 1:
            lines.append(_line(depth - 1, f"{folder.name}/", _sentence(folder / "__init__.py")))
        lines += [_line(depth, path.name, _sentence(path)) for path in modules]
    lines += [_line(0, name, note) for name, note in NOTES.items()]
    return "\n".join(lines) + "\n"


def _line(depth: int, name: str, note: str) -> str:
    return f"{'  ' * depth + name:<27}{note}"


def _sentence(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text, f"{path} has no docstring"
    return re.split(r"(?<=[.?])\s", " ".join(text.split()))[0].rstrip(".")


def test_the_tree_is_the_house() -> None:
    assert blocks("", below="The house") == [tree()]


def test_everything_the_tree_names_is_there() -> None:
    for name in NOTES:
        assert (ROOT / name).exists(), name


def test_the_header_is_one_a_space_accepts() -> None:
    header = yaml.safe_load(README.split("---\n")[1])
    assert header["sdk"] == "gradio"
    assert header["app_file"] == "app.py"
    assert (ROOT / header["app_file"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", header["sdk_version"])
    assert isinstance(header["python_version"], str)
    assert len(header["short_description"]) <= 60  # the Hub refuses longer ones
    assert header["hf_oauth"] is True


def test_the_header_asks_for_the_gradio_that_requirements_allow() -> None:
    version = yaml.safe_load(README.split("---\n")[1])["sdk_version"]
    wanted = re.search(r"^gradio>=([\d.]+),<(\d+)$", _requirements(), re.M)
    assert wanted
    assert version.startswith(wanted[1])
    assert int(version.split(".")[0]) < int(wanted[2])


def test_the_bad_build_of_torch_is_excluded() -> None:
    wanted = re.search(r"^torch>=(\d+)\.(\d+)", _requirements(), re.M)
    assert wanted
    assert (int(wanted[1]), int(wanted[2])) > (2, 13)


def _requirements() -> str:
    return (ROOT / "requirements.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("heading", "last"), [("Start", ".venv/bin/python app.py"), ("Tests", ".venv/bin/python -m pytest")]
)
def test_one_command_sets_up_and_runs(heading: str, last: str) -> None:
    [command] = blocks("bash", below=heading)
    make, install, run = (part.strip() for part in command.split("&&"))
    assert make == "python3 -m venv .venv"
    assert run == last
    words = shlex.split(install)
    assert words[:2] == [".venv/bin/pip", "install"]
    for flag, name in zip(words[2::2], words[3::2], strict=True):
        assert flag == "-r"
        assert (ROOT / name).is_file()


def test_ci_runs_the_command_below_tests() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    extract = re.search(r"command=\$\((.*)\)\n", script)
    assert extract
    found = subprocess.run(
        ["bash", "-c", extract[1]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == blocks("bash", below="Tests")[0]


def test_the_python_example_runs() -> None:
    [example] = blocks("python", below="Python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    epoch, accuracy, answer = done.stdout.strip().splitlines()
    assert epoch.startswith("1 ")
    assert float(accuracy) >= 0.95
    assert set(ast.literal_eval(answer)) == {"match", "mismatch"}


def test_the_command_line_examples_name_real_verbs_and_options() -> None:
    for command in blocks("bash", below="Command line")[0].strip().splitlines():
        verb, *rest = shlex.split(command)[3:]
        options = [word for word in rest if word.startswith("--")]
        shown = subprocess.run(
            [sys.executable, "-m", "mmapp", verb, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "PATH": ""},
        ).stdout
        for option in options:
            assert option in shown, f"{verb} has no {option}"
