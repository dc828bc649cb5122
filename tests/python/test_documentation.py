"""What the documentation shows is true: docstrings are run, and so is what the guides show."""

import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import io
import json
import re
import subprocess
import sys
import textwrap
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import infobatch

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = list(importlib.import_module("infobatch._options").Options.__annotations__)
GUIDE = ROOT / "docs" / "python.md"
PAGES = (GUIDE, ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

# import it
NEEDS_TORCH = {"_compiled", "_process_group", "_streams_torch", "_tables", "_tensors", "_torch", "ops"}
SHOWS_TORCH = {"schedule"}  # their examples do

# import the package of their name
TRAINERS = {"accelerate", "composer", "deepspeed", "lightning", "mmengine", "transformers"}


def needed(name: str) -> object:
    if name in TRAINERS:
        return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    return pytest.mark.torch if name in NEEDS_TORCH | SHOWS_TORCH else ()


MODULES = [
    pytest.param(path.stem, marks=needed(path.stem))
    for path in sorted(Path(infobatch.__file__).parent.glob("*.py"))
]

# Where torch and NumPy are loaded makes no difference to what an example prints: it must not.
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def module(name: str) -> ModuleType:
    return importlib.import_module("infobatch" if name == "__init__" else f"infobatch.{name}")


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_show_what_happens(name: str) -> None:
    found = doctest.testmod(module(name), optionflags=FLAGS)
    assert found.failed == 0


@pytest.mark.parametrize("name", [path.stem for path in sorted(Path(infobatch.__file__).parent.glob("*.py"))])
def test_every_module_says_what_it_is(name: str) -> None:
    source = (Path(infobatch.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    assert source.startswith('"""')


def public() -> list[tuple[str, object]]:
    """Every name of the package that can be had here; what needs torch only where there is one."""
    found: list[tuple[str, object]] = []
    for name in infobatch.__all__:
        if name == "scale_gradient" and importlib.util.find_spec("torch") is None:
            continue
        found.append((name, getattr(infobatch, name)))
    return found


def members() -> list[tuple[str, object]]:
    """The public classes and functions, and the methods and properties of the classes."""
    from infobatch.samplers import BatchSampler, Sampler

    found = [(name, value) for name, value in public() if name != "__version__"]
    for name, value in [*found, ("Sampler", Sampler), ("BatchSampler", BatchSampler)]:
        if not inspect.isclass(value) or issubclass(value, Warning | Exception):
            continue
        fields = (
            {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
        )
        found += [
            (f"{name}.{attribute}", member)
            for attribute, member in vars(value).items()
            if not attribute.startswith("_")
            and attribute not in fields
            and not isinstance(member, str | type(None))
        ]
    return found


def test_every_public_name_has_a_docstring() -> None:
    missing = [name for name, value in members() if not (inspect.getdoc(value) or "").strip()]
    assert missing == []
    # An exception of the package must not show the docstring of the class it derives from.
    inherited = [
        name for name, value in public() if inspect.isclass(value) and not value.__dict__.get("__doc__")
    ]
    assert inherited == []


def test_public_classes_and_functions_show_an_example() -> None:
    without = [
        name
        for name, value in public()
        if callable(value)
        and not (inspect.isclass(value) and issubclass(value, Warning | Exception))
        and not doctest.DocTestFinder(recurse=False).find(value, name)[0].examples
    ]
    assert without == []


def section(heading: str) -> str:
    """The text of a section of the guide."""
    text = GUIDE.read_text(encoding="utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(heading: str) -> list[str]:
    """The names in the first column of a section's table, in backquotes."""
    columns = re.findall(r"^\| (.*?) \|", section(heading), flags=re.MULTILINE)
    return [name for column in columns for name in re.findall(r"`(\w+)`", column)]


def test_the_options_for_type_checkers_are_those_of_the_engine() -> None:
    engine = importlib.import_module("infobatch._session").option_kinds()
    own = importlib.import_module("infobatch.infobatch")._OWN_OPTIONS
    assert {*engine} - {"epochs", "prune_ratio", "delta"} == {*OPTIONS} - {*own}


def test_the_policies_are_those_of_the_engine() -> None:
    lib = importlib.import_module("infobatch._library").lib
    text = (GUIDE.parent / "policies.md").read_text(encoding="utf-8")
    for card in json.loads(lib.ib_cards_json())["policies"]:
        assert f"| `{card['name']}`" in text
        named = text.partition(f"\n## {card['name']}\n")[2].partition("\n## ")[0]
        assert named or card["name"] == "full"
        own = [name for name in card["parameters"] if name.startswith(card["name"])]
        columns = [column["name"] for column in card["columns"]]
        assert [name for name in own + columns if f"`{name}" not in named] == []


def test_the_table_of_options_is_that_of_the_package() -> None:
    assert sorted(rows("Options")) == sorted(OPTIONS)
    docstring = inspect.getdoc(infobatch.InfoBatch) or ""
    assert [name for name in OPTIONS if f"``{name}``" not in docstring] == []


def values_of(option: dict[str, Any]) -> str:
    """What an option of the engine takes, as the guide writes it."""
    if option["choices"] is not None:
        return ", ".join(f'`"{choice}"`' for choice in option["choices"])
    if option["range"] is None:
        return {"natural": "0 to 2^64 - 1"}.get(option["kind"], "")
    low, high = (f"{option['range'][end]:.10g}" for end in ("low", "high"))
    opens, closes = "[("[option["range"]["low_open"]], "])"[option["range"]["high_open"]]
    return f"{opens}{low}, {high}{closes}"


def written(default: object) -> str:
    """A default as Python writes it, texts in double quotes."""
    return f'"{default}"' if isinstance(default, str) else repr(default)


def test_defaults_and_values_of_the_table_are_those_of_the_engine() -> None:
    lib = importlib.import_module("infobatch._library").lib
    table = {
        cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
        for cells in (
            row.strip("|").split("|") for row in section("Options").splitlines() if row[:3] == "| `"
        )
    }
    options = json.loads(lib.ib_cards_json())["options"]
    assert len(options) > 10
    for option in options:
        if option["name"] not in table:
            assert option["name"] in ("epochs", "prune_ratio", "delta")
            continue
        default, values, _ = table[option["name"]]
        if option["name"] != "seed":  # the package has a default of its own
            assert default.startswith(f"`{written(option['default'])}`"), option["name"]
        if option["kind"] == "numbers":
            assert values.startswith(f"each in {values_of(option)}"), option["name"]
        else:
            assert values == values_of(option), option["name"]


def test_the_table_of_warnings_is_that_of_the_package() -> None:
    assert sorted([*rows("Warnings"), "InfoBatchWarning"]) == sorted(
        name for name in infobatch.__all__ if name.endswith("Warning")
    )


def test_the_table_of_statistics_is_that_of_the_package() -> None:
    fields = [field.name for field in dataclasses.fields(infobatch.Statistics)]
    assert sorted(rows("Statistics")) == sorted([*fields, "pruned_total"])


def test_the_table_of_names_is_true() -> None:
    names = {
        re.match(r"\w+", name).group()
        for name in re.findall(
            r"`(\w+)", "\n".join(re.findall(r"^\| (.*?) \|", section("New code"), flags=re.MULTILINE))
        )
    }
    here = {name for name in vars(infobatch.InfoBatch) if not name.startswith("_")} | set(infobatch.__all__)
    assert names - here == set()
    official = {"get_pruned_count", "mean_score", "stop_prune"}  # in the section about that package
    methods = {name for name in vars(infobatch.InfoBatch) if not name.startswith("_")}
    assert methods - names - official == set()


def blocks(page: Path) -> list[tuple[int, str, str, str]]:
    """Python blocks of a page: line, info string behind "python", code, and the text block behind it."""
    text = page.read_text(encoding="utf-8")
    found = []
    pattern = r"^```python([^\n]*)\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?"
    for match in re.finditer(pattern, text, flags=re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        found.append((line, match[1].strip(), textwrap.dedent(match[2]), match[3] or ""))
    return found


BLOCKS = [
    pytest.param(
        code, info, printed, id=f"{page.name}:{line}", marks=pytest.mark.torch if "torch" in info else ()
    )
    for page in dict.fromkeys(PAGES)
    for line, info, code, printed in blocks(page)
]


@pytest.mark.one_environment("a drawing by the standard library")
def test_the_picture_is_that_of_its_run(tmp_path: Path) -> None:
    figures = ROOT / "bench" / "results" / "cifar10.json"
    picture = tmp_path / "cifar10.svg"
    subprocess.run([sys.executable, ROOT / "scripts" / "draw_training.py", figures, picture], check=True)
    assert picture.read_bytes() == (ROOT / "docs" / "cifar10.svg").read_bytes()
    # Every arm that the page compares is in it, with the accuracy of its last epoch.
    drawn = picture.read_text(encoding="utf-8")
    runs = json.loads(figures.read_text(encoding="utf-8"))["runs"]
    for arm in ("full", "full-short", "random", "infobatch"):
        last = [run["accuracy"] for run in runs if run["arm"] == arm]
        assert f">{arm}: {sum(last) / len(last):.1f} % after " in drawn


def test_the_pages_have_blocks() -> None:
    assert {block.id.partition(":")[0] for block in BLOCKS} >= {"python.md", "README.md"}
    assert sum("run" in block.values[1] for block in BLOCKS) >= 2


@pytest.mark.one_environment("the guide is about the package; what it calls has tests that run everywhere")
@pytest.mark.parametrize(("code", "info", "printed"), BLOCKS)
def test_a_block_is_python_and_where_it_says_so_runs(
    code: str, info: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = compile(code, "block", "exec")
    if "run" not in info.split():
        return
    monkeypatch.chdir(tmp_path)
    output = io.StringIO()
    with redirect_stdout(output), warnings.catch_warnings():
        exec(program, {"__name__": "block"})
    if "torch" not in info.split():
        assert output.getvalue() == printed
        return
    # Torch rounds as its release and the processor do, so that one sample or another changes sides.
    number = r"\d+(?:\.\d+)?"
    assert re.sub(number, "", output.getvalue()) == re.sub(number, "", printed)
    figures = [[float(found) for found in re.findall(number, text)] for text in (output.getvalue(), printed)]
    assert figures[0] == pytest.approx(figures[1], rel=0.03)
