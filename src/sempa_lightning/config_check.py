"""Check of a config against the signatures of what it names, before anything is built, read or loaded."""

import collections.abc
import contextlib
import difflib
import inspect
import math
import pkgutil
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sempa_lightning.check import Range
from sempa_lightning.errors import UserError

# Keys of a node that Hydra reads itself.
_HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
# Targets that return the object that `path` names.
_LOOKUPS = ("hydra.utils.get_method", "hydra.utils.get_class", "hydra.utils.get_object")
_MISSING = "???"
_PLAIN = (bool, int, float, str, type(None))
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
    collections.abc.Callable: "a function",
}


def check_config(
    config: Mapping[str, Any], fields: Mapping[str, Any], passed: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Check every key and value of a resolved config.

    A node that names a target must bind to the target's signature, and each of its values must fit the annotation of
    its parameter. As in strict JSON, a whole number fits `float` and a list fits `tuple`, but text fits no number, a
    fraction no `int`, and a bool neither.

    Args:
        config: The config as plain dicts, lists, texts and numbers; interpolations are resolved.
        fields: The top-level keys that the command reads, each with the type of its value.
        passed: For a top-level node, parameters that the command passes itself or does not read, each with what to set
            instead; with an empty text, the config may give it.

    Raises:
        UserError: If a key is unknown, missing or passed by the command, a target cannot be imported, or a value does
            not fit. The message begins with the key.
    """
    for key in config.keys() - fields.keys():
        raise UserError(f"{key}: this command has no such key{closest(key, fields)}. Drop it.")
    for key, expected in fields.items():
        if key in config:
            _check(key, config[key], expected, (passed or {}).get(key, {}))
        elif not any(member is Any or _is_plain(member) for member in _members(expected)):
            raise UserError(f"{key}: missing from the config. It must be {_described(expected)}.")


def check_value(config: Mapping[str, Any], key: str, value: Any) -> None:  # noqa: ANN401 (as a config holds it)
    """Check what a key of a node would be set to; a key outside of nodes takes any value.

    Args:
        config: The config as plain dicts; interpolations may be unresolved.
        key: Dotted path of the key.
        value: The value.

    Raises:
        UserError: If it does not fit the parameter's annotation.
    """
    *path, name = key.split(".")
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict) and "_target_" in node:
        parameters = _parameters(_located(f"{key}._target_", node["_target_"])) or {}
        if name in parameters:
            _check(key, value, parameters[name].annotation)


def check_type(key: str, value: Any, expected: Any) -> None:  # noqa: ANN401 (any value, any annotation)
    """Check one value against an annotation.

    Raises:
        UserError: If it does not fit; the message begins with the key.
    """
    _check(key, value, expected)


def parameters_of(node: Mapping[str, Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a node's target by name, none if they are unknown."""
    return _parameters(_located("_target_", node["_target_"])) or {}


def _check(key: str, value: Any, expected: Any, passed: Mapping[str, str] | None = None) -> None:  # noqa: ANN401
    """Refuse a value that does not fit an annotation."""
    if value == _MISSING:
        raise UserError(f"{key}: no value is set. Set {key}=<{_described(expected)}>.")
    if isinstance(value, dict) and "_target_" in value:
        _check_node(key, value, expected, passed or {})
        return
    members = _members(expected)
    if Any in members or not any(map(_is_known, members)):
        _check_inside(key, value)
        return
    fitting = [member for member in members if _has_kind(value, member)]
    problems = [problem for member in fitting if (problem := _problem(key, value, member))]
    if fitting and len(problems) < len(fitting):
        return
    if fitting and isinstance(value, list | dict):
        raise problems[0]
    raise UserError(f"{key}: expected {_described(expected)}, found {_shown(value)}.{_hint(value, members)}")


def _problem(key: str, value: Any, expected: Any) -> UserError | None:  # noqa: ANN401
    """What is wrong with the content of a value of the right kind."""
    try:
        _check_content(key, value, expected)
    except UserError as error:
        return error
    return None


def _check_inside(key: str, value: Any) -> None:  # noqa: ANN401
    """Check the nodes inside a value of unknown type."""
    for name, item in _items(value):
        _check(f"{key}.{name}", item, Any)


def _check_content(key: str, value: Any, expected: Any) -> None:  # noqa: ANN401
    """Check a value of the right kind: its range, or its items."""
    if get_origin(expected) is Annotated:
        inner, *marks = get_args(expected)
        _check(key, value, inner)
        for mark in marks:
            if isinstance(mark, Range) and not mark.holds(value):
                raise UserError(f"{key}: expected {_described(expected)}, found {_shown(value)}.")
        return
    types_inside = get_args(expected)
    if isinstance(value, dict):
        item_type = types_inside[1] if len(types_inside) > 1 else Any
    else:
        item_type = types_inside[0] if types_inside else Any
    is_fixed = get_origin(expected) is tuple and Ellipsis not in types_inside
    for place, (name, item) in enumerate(_items(value)):
        _check(f"{key}.{name}", item, types_inside[place] if is_fixed else item_type)


def _check_node(key: str, node: Mapping[str, Any], expected: Any, passed: Mapping[str, str]) -> None:  # noqa: ANN401
    """Check that a node binds to its target's signature, and that what the target makes fits an annotation."""
    target = node["_target_"]
    called = _located(f"{key}._target_", target)
    if not callable(called):
        raise UserError(f"{key}._target_: {target} cannot be called. Name a class or a function.")
    partial = node.get("_partial_", False)
    if not isinstance(partial, bool):
        raise UserError(f"{key}._partial_: expected true or false, found {_shown(partial)}.")
    parameters = _parameters(called)
    if parameters is not None:
        _check_arguments(key, node, parameters, passed, is_own=_is_own(called))
        if not partial and "_args_" not in node:
            _check_complete(key, node, parameters, passed)
    if target in _LOOKUPS:
        _located(f"{key}.path", node.get("path"))
        return
    if not partial and not _makes(called, expected):
        raise UserError(f"{key}._target_: expected {_described(expected)}, found {target}.")
    if partial and not any(member is Any or not _is_plain(member) for member in _members(expected)):
        raise UserError(f"{key}: expected {_described(expected)}, found a function ({target}).")


def _check_arguments(
    key: str,
    node: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    passed: Mapping[str, str],
    *,
    is_own: bool,
) -> None:
    """Check the names and values of a node's keys."""
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    for name, value in sorted(node.items(), key=lambda item: isinstance(item[1], dict)):  # others may refer to a number
        if name in _HYDRA_KEYS:
            continue
        if passed.get(name):
            raise UserError(f"{key}.{name}: this command does not take it. Set {passed[name]} instead.")
        if name not in named and not takes_any:
            takes = ", ".join(known for known in named if known not in passed) or "no parameter"
            raise UserError(
                f"{key}.{name}: {node['_target_']} has no parameter {name}{closest(name, named)}."
                f" Drop it with '~{key}.{name}'. It takes {takes}."
            )
        if not is_own and value == math.inf:  # a library's `int` is often only compared
            continue
        _check(f"{key}.{name}", value, named[name].annotation if name in named else Any)


def _check_complete(
    key: str, node: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], passed: Mapping[str, str]
) -> None:
    """Check that a node gives all parameters that have no default."""
    for name, parameter in parameters.items():
        is_optional = parameter.default is not parameter.empty or parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        if not is_optional and name not in node and name not in passed:
            raise UserError(
                f"{key}.{name}: {node['_target_']} needs it. Set +{key}.{name}=<{_described(parameter.annotation)}>."
            )


def _located(key: str, path: Any) -> Any:  # noqa: ANN401 (whatever a dotted path names)
    """Import the object that a dotted path names."""
    if not isinstance(path, str) or not path:
        raise UserError(f"{key}: expected the dotted path of a class or function, found {_shown(path)}.")
    try:
        return pkgutil.resolve_name(path)
    except AttributeError:
        place, _, name = path.rpartition(".")
        known: list[str] = []
        with contextlib.suppress(Exception):
            known = dir(pkgutil.resolve_name(place))
        raise UserError(f"{key}: {place} has no {name}{closest(name, known)}.") from None
    except Exception as error:  # whatever happens where a module is imported
        raise UserError(f"{key}: cannot import {path}: {type(error).__name__}: {error}") from error


def _parameters(called: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Parameters of a class or function, their annotations evaluated; None if Python cannot tell them.

    Of a class whose constructor passes keywords on to that of its base, both have parameters; those of the base may be
    left out, for the class may pass them itself.
    """
    found = _signature(called)
    constructors = [base.__init__ for base in getattr(called, "__mro__", ())[1:-1] if "__init__" in vars(base)]
    while found and constructors and (rest := _passed_on(found)):
        inherited = _signature(constructors.pop(0)) or {}
        del found[rest]
        named = {name: parameter for name, parameter in inherited.items() if name != "self"}
        found = {name: _optional(parameter) for name, parameter in named.items()} | found
    return found


def _signature(called: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    for evaluated in (True, False):
        with contextlib.suppress(Exception):  # a name in an annotation that is imported for type checkers alone
            return dict(inspect.signature(called, eval_str=evaluated).parameters)
    return None


def _optional(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter with a default, if it can have one."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter if parameter.kind in variadic else parameter.replace(default=None)


def _passed_on(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """The name of the parameter that takes all other keywords."""
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    return next((name for name, kind in kinds.items() if kind is inspect.Parameter.VAR_KEYWORD), None)


def _is_own(called: Any) -> bool:  # noqa: ANN401
    return str(getattr(called, "__module__", "")).partition(".")[0] == __name__.partition(".")[0]


def _makes(called: Any, expected: Any) -> bool:  # noqa: ANN401
    """Whether what a target returns can fit an annotation; yes where nothing is known of either."""
    members = _members(expected)
    made = called if inspect.isclass(called) else _returned(called)
    if Any in members or made is Any or not any(map(_is_known, members)):
        return True
    return any(_is_subtype(made, member) for member in members)


def _returned(called: Any) -> Any:  # noqa: ANN401
    """The class that a function returns; Any if it does not say."""
    try:
        made = inspect.signature(called, eval_str=True).return_annotation
    except Exception:
        return Any
    made = get_origin(made) or made
    return Any if made is inspect.Signature.empty or not inspect.isclass(made) else made


def _is_subtype(made: type, expected: Any) -> bool:  # noqa: ANN401
    if get_origin(expected) is Literal:
        return False
    wanted = get_origin(expected) or expected
    if not inspect.isclass(wanted):
        return not _is_known(expected)
    if getattr(wanted, "_is_protocol", False):
        names = {name for name in vars(wanted) if not name.startswith("_") or name in ("__call__", "__iter__")}
        if methods := {name for name in names if callable(vars(wanted)[name])}:
            return all(any(name in vars(base) for base in made.__mro__) for name in methods)
        return not names or any(hasattr(made, name) or name in getattr(made, "__annotations__", ()) for name in names)
    return issubclass(made, wanted)


def _members(expected: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The members of a union, or the one type."""
    if expected in (inspect.Parameter.empty, object) or isinstance(expected, str | typing.TypeVar):
        return (Any,)
    if get_origin(expected) in (Union, types.UnionType):
        return tuple(member for part in get_args(expected) for member in _members(part))
    return (type(None),) if expected is None else (expected,)


def _is_plain(member: Any) -> bool:  # noqa: ANN401
    return member in _PLAIN or get_origin(member) in (Literal, Annotated)


def _is_component(member: Any) -> bool:  # noqa: ANN401
    """Whether a type is a class that only a node can make."""
    origin = get_origin(member) or member
    return (
        not _is_plain(member) and inspect.isclass(origin) and origin.__module__ not in ("builtins", "collections.abc")
    )


def _is_known(member: Any) -> bool:  # noqa: ANN401
    return _is_plain(member) or inspect.isclass(get_origin(member) or member)


def _has_kind(value: Any, member: Any) -> bool:  # noqa: ANN401
    """Whether a plain value is of the kind that a type asks for, whatever its items."""
    origin = get_origin(member) or member
    if origin is Annotated:
        return any(_has_kind(value, inner) for inner in _members(get_args(member)[0]))
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(member))
    if origin is float:
        return type(value) in (int, float) and not math.isnan(value)
    if origin in _PLAIN:
        return type(value) is origin
    if not inspect.isclass(origin):
        return True
    is_list = (
        _is_abstract(list, origin) or origin in (set, frozenset) or (origin is tuple and _has_length(value, member))
    )
    is_mapping = typing.is_typeddict(origin) or origin in _MAPPINGS
    is_path = hasattr(origin, "__fspath__")
    return (
        (isinstance(value, list) and is_list)
        or (isinstance(value, dict) and is_mapping)
        or (isinstance(value, str) and is_path)
    )


def _has_length(value: Any, member: Any) -> bool:  # noqa: ANN401
    items = get_args(member)
    return not items or Ellipsis in items or (isinstance(value, list) and len(items) == len(value))


def _is_abstract(made: type, origin: type) -> bool:
    """Whether a list or a dict is of a built-in or abstract type; a protocol of ours asks for more than they have."""
    return origin.__module__ in ("builtins", "collections.abc") and issubclass(made, origin)


def _items(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _described(expected: Any) -> str:  # noqa: ANN401
    """An annotation in words."""
    members = _members(expected)
    simple = [member for member in members if _is_plain(member) and member is not type(None)]
    if simple:  # a number, rather than the tensor that a library takes, too
        members = tuple(member for member in members if member in _NAMES or not _is_component(member))
    return " or ".join(dict.fromkeys(map(_described_member, members)))


def _described_member(member: Any) -> str:  # noqa: ANN401
    origin, items = get_origin(member) or member, get_args(member)
    if origin is Annotated:
        return " ".join([_described(items[0]), *(str(mark) for mark in items[1:] if isinstance(mark, Range))])
    if origin is Literal:
        return f"one of {', '.join(map(str, items))}" if len(items) > 1 else str(items[0])
    if not inspect.isclass(origin) or origin in _NAMES:
        return _NAMES.get(origin, "a value")
    inside = " and ".join(dict.fromkeys(_described(item) for item in items if item is not Ellipsis))
    if _is_abstract(list, origin) or origin in (tuple, set, frozenset):
        size = f" of {len(items)}" if origin is tuple and Ellipsis not in items else ""
        return f"a list{size}, each {inside}" if items else "a list"
    if origin in _MAPPINGS:
        return "a mapping"
    return f"a node whose _target_ makes {origin.__name__}"


def _shown(value: Any) -> str:  # noqa: ANN401
    """A value as YAML writes it, cut to a line; text in quotes."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(value)
    longest = 80
    return text if len(text) <= longest else f"{text[:longest]}…"


def _hint(value: Any, members: Sequence[Any]) -> str:  # noqa: ANN401
    """What to do about a number in quotes, or about text without them."""
    if isinstance(value, str) and any(_has_kind(1, member) for member in members):
        with contextlib.suppress(ValueError):
            float(value)
            return " Drop the quotes."
    if isinstance(value, int | float) and not isinstance(value, bool) and str in members:
        return " Put it in quotes."
    return ""


def closest(name: str, known: Any) -> str:  # noqa: ANN401 (names in any container)
    """Return the known name that a misspelt one is nearest to, as a question in brackets; empty if none is near."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""
