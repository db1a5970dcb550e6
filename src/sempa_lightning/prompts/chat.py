"""Conversations as a model's chat template writes them: a program from a stranger, run within limits."""

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from sempa_lightning.errors import UserError

# A template adds some hundred characters to a conversation, in microseconds.
_SECONDS = 10.0
_MOST_CHARACTERS, _CHARACTERS_PER_INPUT = 200_000, 20
_MOST_BYTES = 2**28

# Templates, with their arguments, that have been rendered once.
_RENDERED: set[tuple[str, str]] = set()


@runtime_checkable
class ChatTokenizer(Protocol):
    """The part of a tokenizer that a template needs."""

    chat_template: Any

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        *,
        tokenize: bool,
        add_generation_prompt: bool,
        **arguments: Any,  # noqa: ANN401 (what the template takes)
    ) -> str:
        """Write a conversation as the model was trained to read it."""


def render(
    tokenizer: ChatTokenizer,
    turns: Sequence[Mapping[str, str]],
    arguments: Mapping[str, Any],
    *,
    add_generation_prompt: bool,
) -> str:
    """Write a conversation with the tokenizer's chat template.

    Args:
        tokenizer: The model's tokenizer.
        turns: `role` and `content` of each turn, a system turn first if there is one.
        arguments: Variables of the template, such as `enable_thinking`.
        add_generation_prompt: Whether the beginning of a reply stands at the end.

    Raises:
        UserError: If there is no template, or it refuses the conversation, fails, runs too long or writes too much.
    """
    if tokenizer.chat_template is None:
        raise UserError("the tokenizer has no chat template: give model.chat_template, or set prompt.chat=false")

    def written(some: Sequence[Mapping[str, str]]) -> str:
        name = (str(tokenizer.chat_template), repr(arguments))
        with _time_limit(), contextlib.nullcontext() if name in _RENDERED else _memory_limit():
            text = tokenizer.apply_chat_template(
                [dict(turn) for turn in some],
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **arguments,
            )
        _RENDERED.add(name)
        return text

    try:
        text = written(turns)
    except Exception as error:  # what a template raises is up to its author
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if turns[0]["role"] == "system" and _succeeds(written, turns[1:]):
            raise UserError(
                f"prompt.system: the model's chat template refuses a system turn ({reason}): set prompt.system=null"
                " (readout.template.system=null for a readout)"
            ) from error
        raise UserError(
            f"model.chat_template: the model's chat template fails ({type(error).__name__}: {reason}): set"
            " prompt.chat=false (readout.template.chat=false for a readout), or give another model.chat_template"
        ) from error
    length = sum(len(turn["content"]) for turn in turns)
    if len(text) > _MOST_CHARACTERS + _CHARACTERS_PER_INPUT * length:
        raise UserError(
            f"model.chat_template: the model's chat template writes {len(text):,} characters for a conversation of"
            f" {length:,}: set prompt.chat=false, or give another model.chat_template"
        )
    return text


def _succeeds(written: Any, turns: Sequence[Mapping[str, str]]) -> bool:  # noqa: ANN401 (a function)
    try:
        written(turns)
    except Exception:  # as above
        return False
    return True


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Interrupt Python code that runs too long; only the main thread can be interrupted."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (a signal handler)
        raise TimeoutError(f"not rendered after {_SECONDS:g} seconds")

    handler = signal.signal(signal.SIGALRM, interrupt)
    timer = signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    """Let the process grow by `_MOST_BYTES` at most, where the system can say so."""
    try:
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = pages * resource.getpagesize() + _MOST_BYTES
    except (ImportError, OSError, ValueError):
        yield
        return
    known = [number for number in (soft, hard) if number != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
