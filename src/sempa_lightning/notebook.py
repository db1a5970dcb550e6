"""The short Python interface: `sempa_lightning.load(…)`, then encode, compare and generate."""

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sempa_lightning.artifacts import RunDir
from sempa_lightning.assets import local_path
from sempa_lightning.data.flaw import check_readable
from sempa_lightning.errors import UserError
from sempa_lightning.files import read_object
from sempa_lightning.masking import refuse_masks
from sempa_lightning.metrics.similarity import cosine_matrix
from sempa_lightning.models.adapters import SavedAdapter
from sempa_lightning.models.causal_lm import load_causal_lm, placed
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.generation import Sampling, continue_texts
from sempa_lightning.models.readout import Readout, SentenceReadout
from sempa_lightning.models.user_text import UserText
from sempa_lightning.pooling.last_token import last_token
from sempa_lightning.prompts.sentence import end_with_full_stop
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.trust import check_saved

# For a model that comes without a run; the same as conf/readout/prompt_eol and conf/prompt/keep_meaning.
SEMPA_READOUT = Readout(
    PromptTemplate('This sentence : "{sentence}" means in one word:"'), end_with_full_stop, -1, last_token
)
SEMPA_PROMPT = PromptTemplate(
    'Keep the same meaning of this sentence: "{sentence}", while making some changes.',
    system="You are a helpful assistant",
    separator="\n",
)


@dataclass(frozen=True)
class SentenceModel:
    """A language model that embeds sentences and writes text.

    Attributes:
        policy: The causal language model, with its adapter if it has one, in evaluation mode.
        tokenizer: Its tokenizer.
        readout: How a sentence becomes a vector.
        prompt: How a paraphrase is asked for.
    """

    policy: nn.Module
    tokenizer: PreTrainedTokenizerBase
    readout: SentenceReadout
    prompt: PromptTemplate

    def encode(self, sentences: Iterable[str], *, batch_size: int = 32) -> Float[Tensor, "sentences width"]:
        """Embed sentences, in order, as float32 vectors on the CPU."""
        return Embedder(self.policy, self.tokenizer, self.readout, batch_size).encode(_listed(sentences))

    def similarity(self, queries: Iterable[str], sentences: Iterable[str]) -> Float[Tensor, "queries sentences"]:
        """Cosine of each query's embedding with each sentence's, -1 to 1."""
        return cosine_matrix(self.encode(queries), self.encode(sentences))

    def generate(
        self,
        prompts: Iterable[str],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        batch_size: int = 8,
    ) -> list[str]:
        """Continue each prompt until its end token or `max_new_tokens`; returns the continuations alone.

        Args:
            prompts: Texts as the model shall read them, special tokens included; the tokenizer adds its begin token.
            max_new_tokens: Longest continuation.
            temperature: 0 takes the likeliest token each time; above, tokens are drawn at that temperature.
            batch_size: Prompts of one forward pass.
        """
        continued = continue_texts(
            self.policy,
            self.tokenizer,
            _listed(prompts),
            Sampling(max_new_tokens, temperature),
            batch_size=batch_size,
        )
        return [continuation.text for continuation in continued]

    def paraphrase(
        self,
        sentences: Iterable[str],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        batch_size: int = 8,
    ) -> list[str]:
        """Ask for a paraphrase of each sentence with the prompt of training; arguments as in `generate`."""
        shield = UserText(self.tokenizer).shield
        texts = [self.prompt.prompt(self.tokenizer, shield(sentence)) for sentence in _listed(sentences)]
        continued = continue_texts(
            self.policy,
            self.tokenizer,
            texts,
            Sampling(max_new_tokens, temperature),
            batch_size=batch_size,
            special_tokens=not self.prompt.chat,
        )
        return [continuation.text for continuation in continued]


def load(
    path: str | Path,
    *,
    dtype: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> SentenceModel:
    """Load a trained run, or any causal language model, to embed sentences and to generate.

    Args:
        path: A run folder, a folder in Hugging Face format, an adapter, a `pkg://` location or a name on the Hub. A run
            brings its own readout and prompt, anything else is used with SemPA's. A run folder is data: only
            components of this package are built from its config.
        dtype: Dtype of the weights, as torch names it; None is the run's own, or float32.
        device: Where the model goes; None is the GPU if there is one, else the CPU.
        trust: Modules whose classes and functions the run's config may name, too: your own components.
        trust_remote_code: Run the code that comes with the model, where transformers does not know its class.

    Raises:
        UserError: If nothing can be loaded from there, or the config names something that is not trusted.
    """
    remote = {"trust_remote_code": True} if trust_remote_code else {}
    if RunDir(path).config.is_file():
        model = load_run(RunDir(path), remote if dtype is None else {**remote, "dtype": dtype}, trust)
    else:
        adapter = local_path(str(path)) / "adapter_config.json"
        base = str(read_object(adapter).get("base_model_name_or_path")) if adapter.is_file() else str(path)
        policy, tokenizer = load_causal_lm(base, dtype=dtype or "float32", trust_remote_code=trust_remote_code)
        policy = SavedAdapter(str(path)).attach(policy) if adapter.is_file() else policy
        model = SentenceModel(policy, tokenizer, SEMPA_READOUT, SEMPA_PROMPT)
    placed(model.policy, device)
    return model


def load_run(run: RunDir, model: Mapping[str, Any], trust: Sequence[str] = ()) -> SentenceModel:
    """Rebuild from its folder what a run trained, where its `model` node puts it.

    Args:
        run: The run.
        model: What to change in the run's `model` node, such as its dtype.
        trust: Modules that the config may name (see `check_saved`).

    Raises:
        UserError: If the run has saved no weights, if its parts cannot be loaded, or if its config names something that
            is not trusted.
    """
    saved = run.read_groups(("model", "readout", "prompt"))
    config = {group: saved[group] for group in ("model", "readout", "prompt")}
    check_saved(config, run.config, trust, ["model.trust_remote_code"] if model.get("trust_remote_code") else [])
    if run.adapter.is_dir():
        base, tokenizer = _build({**config["model"], **model})
        with warnings.catch_warnings():
            # peft 0.21 asks for a property that transformers 5.23 has renamed; it still answers.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            policy = SavedAdapter(str(run.adapter)).attach(base)
    elif run.model.is_dir():
        options = {"dtype": "float32", **config["model"], **model}
        policy, tokenizer = load_causal_lm(
            str(run.model), dtype=options["dtype"], trust_remote_code=options.get("trust_remote_code", False)
        )
    else:
        raise UserError(
            f"{run.path} has no adapter/ and no model/ yet: let it end, or go on with train resume={run.path}"
        )
    return SentenceModel(policy, tokenizer, _build(config["readout"]), _build(config["prompt"]))


def _build(node: Mapping[str, Any]) -> Any:  # noqa: ANN401 (whatever the node names)
    """Build the object that a node of a saved config names."""
    refuse_masks(node)
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise UserError(f"cannot build {node['_target_']} of the run's config: {error.__cause__ or error}") from error


def _listed(sentences: object) -> list[str]:
    """Return the texts of a list, tuple, array or column.

    Raises:
        UserError: If this is none of them, such as a single text, which is a sequence of letters, or is empty; if one
            of them is no text, or an unreadable one.
    """
    one_column = getattr(sentences, "ndim", 1) == 1  # numpy, pandas and torch know how many they have
    if isinstance(sentences, str | bytes | Mapping | Set) or not isinstance(sentences, Iterable) or not one_column:
        raise UserError(f"expected a list of texts, found {type(sentences).__name__}: give a list of sentences")
    found = list(sentences)
    if not found:
        raise UserError("the list of texts is empty: give a list of at least one sentence")
    for position, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(f"text {position} is {text!r:.60}, not a text")
        check_readable(text, f"text {position}")
    return [str(text) for text in found]  # numpy has its own type of text
