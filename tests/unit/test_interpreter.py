"""The way in: a Python that will not do is told in one sentence."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import holdfast
from holdfast import interpreter


@pytest.mark.parametrize(("version", "is_fine"), [((2, 7), False), ((3, 11), False), ((3, 12), True), ((4, 0), True)])
def test_a_python_older_than_the_oldest_that_will_do_is_complained_about(
    version: tuple[int, int], is_fine: bool
) -> None:
    """With what there is and what is needed."""
    told = interpreter.complaint(version, "/usr/bin/python")
    assert (told == "") == is_fine
    assert is_fine or f"/usr/bin/python is {version[0]}.{version[1]}" in told


def test_the_least_version_is_that_of_the_package() -> None:
    """One is for pip, the other for whoever runs a checkout."""
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert f'requires-python = ">={interpreter.LEAST[0]}.{interpreter.LEAST[1]}"' in pyproject.read_text()


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py", "interpreter.py"])
def test_what_an_old_python_reads_first_is_written_for_it(name: str) -> None:
    """Python 2.7 knows neither annotations nor f-strings, and takes a file to be ASCII."""
    text = (Path(holdfast.__path__[0]) / name).read_text(encoding="ascii")
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr | ast.AsyncFunctionDef)
        assert not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            assert node.returns is None
            assert not [each for each in (*arguments.args, *arguments.kwonlyargs) if each.annotation]
            assert not (arguments.kwonlyargs or arguments.posonlyargs)


def test_a_package_that_is_missing_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody has started it with a Python for which it was not installed; a mistake of ours keeps its trace."""

    def missing() -> int:
        raise ModuleNotFoundError("No module named 'msgspec'", name="msgspec")

    def ours() -> int:
        raise ImportError("cannot import name 'x'", name="holdfast.cli")

    monkeypatch.setattr("holdfast.cli.main", missing)
    assert interpreter.main() == 2
    assert "msgspec cannot be imported by" in capsys.readouterr().err
    monkeypatch.setattr("holdfast.cli.main", ours)
    with pytest.raises(ImportError):
        interpreter.main()
