"""A config is checked against the signatures of what it names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import pytest

from sempa_lightning.check import Range
from sempa_lightning.config_check import check_config, check_value
from sempa_lightning.errors import UserError


class Shape(Protocol):
    def area(self) -> float: ...


@dataclass
class Square:
    side: float

    def area(self):
        return self.side**2


def square(side: float) -> Square:
    return Square(side)


class Part:
    def __init__(  # noqa: PLR0917
        self,
        shape: Shape,
        rate: float = 1.0,
        count: int = 1,
        share: Annotated[float, Range(0, 1)] = 0.5,
        betas: tuple[float, float] = (0.9, 0.99),
        names: str | Sequence[str] = "all",
        kind: Literal["a", "b"] = "a",
        sizes: Mapping[str, int] | None = None,
        apply: Callable[[float], float] | None = None,
    ) -> None:
        """Hold nothing."""


HERE = __name__
SQUARE = {"_target_": f"{HERE}.Square", "side": 1}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let targets name this file, whatever pytest calls it."""
    import sys

    module = type(sys)(HERE)
    module.__dict__.update(globals())
    monkeypatch.setitem(sys.modules, HERE, module)


def check(fields=None, passed=None, **values):
    node = {"_target_": f"{HERE}.Part", "shape": SQUARE} | values
    check_config({"part": node}, {"part": Part} | (fields or {}), passed)


@pytest.mark.parametrize(
    "values",
    [
        {"rate": 1},
        {"rate": 1e-3},
        {"betas": [0, 0.5]},
        {"names": ["x", "y"]},
        {"sizes": {"a": 1}},
        {"sizes": None},
        {"share": 1},
        {"shape": {"_target_": f"{HERE}.square", "side": 2.0}},
        {"apply": {"_target_": f"{HERE}.square", "_partial_": True}},
        {"apply": {"_target_": "hydra.utils.get_method", "path": f"{HERE}.square"}},
    ],
)
def test_what_fits_passes(values):
    check(**values)


@pytest.mark.parametrize(
    ("values", "key", "said"),
    [
        ({"rate": "1e-3"}, "part.rate", "'1e-3'. Drop the quotes"),
        ({"rate": True}, "part.rate", "found true"),
        ({"rate": float("nan")}, "part.rate", "found nan"),
        ({"rate": [1.0]}, "part.rate", "a number"),
        ({"count": 8.5}, "part.count", "a whole number, found 8.5"),
        ({"share": 2}, "part.share", "from 0 to 1, found 2"),
        ({"betas": [0.9]}, "part.betas", "a list of 2"),
        ({"betas": [0.9, "x"]}, "part.betas.1", "'x'"),
        ({"names": ["x", 3]}, "part.names.1", "Put it in quotes"),
        ({"kind": "c"}, "part.kind", "one of a, b"),
        ({"sizes": {"a": 0.5}}, "part.sizes.a", "0.5"),
        ({"shape": 3}, "part.shape", "Shape"),
        ({"shape": {"side": 3}}, "part.shape", "Shape"),
        ({"shape": {"_target_": f"{HERE}.Part", "shape": SQUARE}}, "part.shape._target_", "Shape"),
        ({"shape": {"_target_": f"{HERE}.Square", "sid": 1}}, "part.shape.sid", "did you mean side?"),
        ({"shape": {"_target_": f"{HERE}.Square"}}, "part.shape.side", "needs it"),
        ({"shape": {"_target_": f"{HERE}.Squar"}}, "part.shape._target_", "did you mean Square?"),
        ({"shape": {"_target_": "no_such_module.Square"}}, "part.shape._target_", "no_such_module"),
        ({"shape": {"_target_": f"{HERE}.Square", "side": "???"}}, "part.shape.side", "no value is set"),
        ({"apply": {"_target_": "hydra.utils.get_method", "path": f"{HERE}.nothing"}}, "part.apply.path", "nothing"),
        ({"apply": "square"}, "part.apply", "a function"),
        ({"rat": 1}, "part.rat", "did you mean rate?"),
    ],
)
def test_what_does_not_fit_is_refused_by_key(values, key, said):
    with pytest.raises(UserError) as error:
        check(**values)
    assert str(error.value).startswith(f"{key}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_command_reads_its_own_keys_alone():
    with pytest.raises(UserError, match=r"^sede: .*did you mean seed\?"):
        check_config({"sede": 1}, {"seed": int})
    with pytest.raises(UserError, match=r"^part: missing"):
        check_config({}, {"part": Part})


def test_what_the_command_passes_is_neither_asked_for_nor_taken():
    node = {"_target_": f"{HERE}.Part"}
    check_config({"part": node}, {"part": Part}, {"part": {"shape": "shape=<option>"}})
    with pytest.raises(UserError, match=r"^part.shape: .*Set shape=<option> instead"):
        check_config({"part": node | {"shape": SQUARE}}, {"part": Part}, {"part": {"shape": "shape=<option>"}})


def test_a_number_of_ours_is_finite():
    lora = {"_target_": "sempa_lightning.models.adapters.Lora", "alpha": 1, "dropout": 0.0, "target_modules": "x"}
    with pytest.raises(UserError, match=r"^adapter.r: .*found inf"):
        check_config({"adapter": lora | {"r": float("inf")}}, {"adapter": object})


def test_one_value_is_checked_at_its_place():
    config = {"part": {"_target_": f"{HERE}.Part", "shape": "${shape}"}, "seed": 0}
    check_value(config, "part.count", 3)
    check_value(config, "seed", 3.5)
    with pytest.raises(UserError, match=r"^part.count: .*found 3.5"):
        check_value(config, "part.count", 3.5)
