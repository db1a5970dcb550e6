"""What the benchmarks share: real rows, the small model, TRL's trainer and ours on them, and sides that take turns."""

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import logging
import multiprocessing
import statistics
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import datasets
import lightning
import torch
from omegaconf import OmegaConf
from peft import LoraConfig, PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast, PrinterCallback
from transformers.utils import logging as transformers_logging

from sempa_lightning.data.clean import clean
from sempa_lightning.data.negatives import Negatives
from sempa_lightning.data.preferences import PreferenceDataModule
from sempa_lightning.data.rows import Row
from sempa_lightning.data.steps import StepSampler
from sempa_lightning.data.tokenize import RowTokenizer
from sempa_lightning.entry import conf_dir, instantiate
from sempa_lightning.errors import UserError
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.models.adapters import Lora
from sempa_lightning.models.causal_lm import max_positions
from sempa_lightning.models.scratch import random_llama
from sempa_lightning.prompts.template import PromptTemplate
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.reference import Reference
from sempa_lightning.training.module import TrainingModule
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.training.optimizers import constant
from sempa_lightning.training.setup import quieten
from sempa_lightning.types import TokenizedRow

PROMPT = PromptTemplate(
    text='Keep the same meaning of this sentence: "{sentence}", while making some changes.', separator="\n"
)
LORA = Lora(r=8, alpha=32, dropout=0.0, target_modules="all-linear")
BATCH_SIZE = 16
BETAS, EPS, WEIGHT_DECAY, MAX_GRAD_NORM = (0.9, 0.95), 1e-8, 0.1, 1.0
MICRO_BATCH_TOKENS = 2048  # as in conf/data/base.yaml
SEED = 0


# ---------------------------------------------------------------------------------------------------- data and model


def require(package: str) -> None:
    """Stop in one line where the other side is not installed.

    Raises:
        UserError: If the package is missing.
    """
    if find_spec(package.replace("-", "_")) is None:
        raise UserError(f"this benchmark needs {package}: pip install 'sempa-lightning[bench]'")


def data_path(*parts: str) -> Path:
    """A file or folder of the real data.

    Raises:
        UserError: If SEMPA_DATA_DIR is not set, or does not hold it.
    """
    if not (folder := os.environ.get("SEMPA_DATA_DIR")):
        raise UserError("SEMPA_DATA_DIR is not set: it must name the folder of real data")
    path = Path(folder, *parts)
    if not path.exists():
        raise UserError(f"no {path}: SEMPA_DATA_DIR must name the folder of real data")
    return path


def nli_rows() -> Iterator[Row]:
    """Yield real triplets: the entailment is chosen, the contradiction rejected."""
    with data_path("nli", "nli_triplets.jsonl").open(encoding="utf-8") as lines:
        for triplet in map(json.loads, lines):
            yield Row(triplet["premise"], (triplet["entailment"],), (triplet["contradiction"],))


def fit_rows(tokenizer: PreTrainedTokenizerBase, max_length: int, number: int) -> list[tuple[Row, TokenizedRow]]:
    """Take the first clean rows whose token-level and text-level joins agree, as text and as token ids."""
    tokenize = RowTokenizer(tokenizer, PROMPT, max_length, unfit="drop")
    dropped: Counter[str] = Counter()
    fit = ((row, tokens) for row in clean(nli_rows(), dropped) for tokens in tokenize([row], dropped))
    pairs = list(islice(fit, number))
    if len(pairs) < number:
        raise UserError(f"{number} fit rows are needed, but there are {len(pairs)}; dropped: {dict(dropped)}")
    print(f"{number} rows; dropped on the way: {dropped.total()}")
    return pairs


def gpt2_tokenizer() -> PreTrainedTokenizerBase:
    """GPT-2's tokenizer of 50257 tokens."""
    end = "<|endoftext|>"
    file = data_path("tokenizer-gpt2", "tokenizer.json")
    return PreTrainedTokenizerFast(tokenizer_file=str(file), bos_token=end, eos_token=end, pad_token=end)


def small_model(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A Llama of 51 M parameters, half of them tied embeddings; the weights are random, always the same."""
    return _random_llama(tokenizer, hidden_size=512, num_layers=8, num_heads=8, intermediate_size=1376)


def tiny_model(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A Llama to try a script out with; its times say nothing."""
    return _random_llama(tokenizer, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)


def _random_llama(tokenizer: PreTrainedTokenizerBase, **shape: int) -> PreTrainedModel:
    return random_llama(tokenizer=tokenizer, max_length=512, seed=SEED, **shape).model


MODELS = {"small": small_model, "tiny": tiny_model}


def component(path: str) -> Any:  # noqa: ANN401 (whatever the file names)
    """Build the component of a file in `conf/`."""
    return instantiate(OmegaConf.load(Path(conf_dir(), path)))


# ------------------------------------------------------------------------------------------------------- the trainers


def attach_lora(model: PreTrainedModel) -> PeftModel:
    """Put a LoRA on the model, always with the same start."""
    torch.manual_seed(SEED)
    return LORA.attach(model)


def detach_lora(policy: PeftModel) -> tuple[dict[str, Tensor], LoraConfig, PreTrainedModel]:
    """The LoRA's weights, its config, and the model without it."""
    weights = {name: value.detach().clone() for name, value in policy.named_parameters() if value.requires_grad}
    return weights, policy.peft_config["default"], policy.unload()


def preference_texts(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> dict[str, list[str]]:
    """Rows as the columns that TRL reads."""
    return {
        "prompt": [PROMPT.prompt(tokenizer, row.anchor) for row in rows],
        "chosen": [row.chosen[0] for row in rows],
        "rejected": [row.rejected[0] for row in rows],
    }


def trl_trainer(
    model: PreTrainedModel,
    lora: LoraConfig,
    start: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    rows: datasets.Dataset,
    **settings: Any,  # noqa: ANN401 (as DPOConfig has them)
) -> Any:  # noqa: ANN401 (a DPOTrainer, which is imported where it is used)
    """Build TRL's trainer over rows in their order, its adapter holding our policy's weights."""
    from huggingface_hub import constants
    from trl import DPOConfig, DPOTrainer

    constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL reports each trainer that is built
    common: dict[str, Any] = {
        "loss_type": ["sigmoid"],
        "max_length": None,
        "train_sampling_strategy": "sequential",
        "optim": "adamw_torch",
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "adam_epsilon": EPS,
        "weight_decay": WEIGHT_DECAY,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    config = DPOConfig(**(common | settings))
    trainer = DPOTrainer(model, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=lora)
    trainer.remove_callback(PrinterCallback)
    unexpected = trainer.model.load_state_dict(start, strict=False).unexpected_keys
    if unexpected:
        raise UserError(f"TRL's model has no {unexpected[0]}")
    return trainer


class _InThisOrder:
    """Rows placed so that the sampler's shuffle puts them into the order given."""

    missing = None

    def __init__(self, rows: Sequence[Row]) -> None:
        steps = StepSampler(len(rows), BATCH_SIZE, SEED, lambda: 0)
        places = [place for step in steps for place in step]
        self._rows = [row for _, row in sorted(zip(places, rows, strict=True), key=lambda pair: pair[0])]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)


def data_module(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int, cache_dir: str, in_batch: int = 0
) -> PreferenceDataModule:
    """Our data module, its training steps made of the rows in their order, with `in_batch` candidates of others each.

    Raises:
        UserError: If it drops a row: the other side does not.
    """
    source = _InThisOrder(rows)
    module = PreferenceDataModule(
        source,
        source,
        PROMPT,
        tokenizer,
        max_length=max_length,
        unfit="error",
        group=False,
        max_rows=None,
        max_rejected=None,
        negatives=Negatives(given=True, in_batch=in_batch),
        batch_size=BATCH_SIZE,
        layout=component("scoring/packed.yaml"),
        micro_batch_tokens=MICRO_BATCH_TOKENS,
        seed=SEED,
        num_workers=0,
        cache_dir=cache_dir,
    )
    module.setup("fit")
    if module.counts["train"]["kept"] != len(rows):
        raise UserError(f"all rows are needed: {module}")
    return module


def our_module(policy: PeftModel, reference: Reference, *, beta: float, learning_rate: float) -> TrainingModule:
    """Our training module, with the settings of `trl_trainer`."""
    return TrainingModule(
        policy,
        reference,
        Preference(PlackettLuce(beta=beta), nll_weight=0.0, kl_weight=0.0),
        partial(torch.optim.AdamW, lr=learning_rate, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY),
        constant,
        MAX_GRAD_NORM,
        Packed(1),
    )


def our_trainer(**settings: Any) -> lightning.Trainer:  # noqa: ANN401 (as lightning.Trainer has them)
    """A Lightning trainer that only trains."""
    common: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(**(common | settings))


def fit_length(model: nn.Module) -> int:
    """Longest row that both sides take."""
    return min(256, max_positions(model))


# ------------------------------------------------------------------------------------------ what is measured, and how


class TokenCounter:
    """Counts the tokens that a decoder is run on, padding included.

    Args:
        decoder: From token ids to hidden states.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self.tokens = 0
        decoder.get_input_embeddings().register_forward_pre_hook(self._count)

    def _count(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        self.tokens += inputs[0].numel()


class PeakMemory:
    """Peak memory of this process above what it holds now: resident on a CPU (Linux), allocated on a GPU.

    Args:
        device: Where the model is.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._start = torch.cuda.memory_allocated() if self._cuda else _status("VmRSS")

    def reset(self) -> None:
        """Forget earlier peaks."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")

    def gb(self) -> float:
        """The peak since the last reset, in GB."""
        peak = torch.cuda.max_memory_allocated() if self._cuda else _status("VmHWM")
        return (peak - self._start) / 1e9


def _status(key: str) -> int:
    """Bytes of an entry of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


class Worker:
    """One side in a process of its own, which works only while it is asked to.

    Args:
        name: For error messages.
        run: What the process does: a function of a module, given its end of the pipe and the arguments.
        args: The arguments.
        threads: Threads of torch.
    """

    def __init__(self, name: str, run: Callable[..., None], *args: Any, threads: int) -> None:  # noqa: ANN401
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_work, args=(run, other_end, threads, args), daemon=True)
        self._process.start()
        other_end.close()

    def ask(self, order: Any = None) -> Any:  # noqa: ANN401 (what the two ends agree on)
        """Let the process do its next piece of work and answer."""
        self._connection.send(order)
        return self.answer()

    def answer(self) -> Any:  # noqa: ANN401 (as above)
        """Wait for what the process tells.

        Raises:
            UserError: If the process raised one, or is gone.
        """
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise UserError(f"the process of {self._name!r} ended; what it said stands above") from error
        if isinstance(answer, UserError):
            raise answer
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._connection.close()  # the process reads its end and leaves, its temporary folders deleted
        self._process.join(timeout=30)
        self._process.kill()
        self._process.join()


def _work(run: Callable[..., None], connection: Connection, threads: int, args: tuple[Any, ...]) -> None:
    be_quiet()
    torch.set_num_threads(threads)
    try:
        run(connection, *args)
    except UserError as error:
        connection.send(error)
    except EOFError:  # nothing more is asked
        pass


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def ratio_of_medians(first: Sequence[float], second: Sequence[float]) -> float:
    """How many times the second fits into the first."""
    return statistics.median(first) / statistics.median(second)


def pairwise(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Ratios of what was measured next to each other."""
    return [a / b for a, b in zip(first, second, strict=True)]


def be_quiet() -> None:
    """Keep progress bars, advice and announced deprecations out of the table."""
    quieten()
    os.environ["TQDM_DISABLE"] = "1"
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", module="lightning")


def tell(main: Callable[[], None]) -> None:
    """Run a benchmark; what the user can put right is told in one line."""
    be_quiet()
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
