"""What embeds sentences and outputs, to compare them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import PICKLES, LanguageModel, placed
from sempa_lightning.models.embedder import Embedder
from sempa_lightning.models.readout import SentenceReadout


@runtime_checkable
class Encoder(Protocol):
    """Turns sentences into vectors."""

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences width"]:
        """Encode sentences, in input order, as float32 vectors on the CPU."""


def language_model_encoder(model: LanguageModel, readout: SentenceReadout, device: str | None) -> Embedder:
    """Embed with a language model that is not the one that writes.

    Args:
        model: The model.
        readout: How embeddings are read out of it.
        device: See `placed`.
    """
    return Embedder(placed(model.model, device), model.tokenizer, readout)


class SentenceTransformerEncoder:
    """A model in the format of sentence-transformers, with its own pooling.

    Args:
        path: A folder, such as `export` writes, or a name on the Hub.
        device: As torch names it; null is the GPU if there is one, else the CPU.
        trust_remote_code: Run the code that comes with the model. It is never asked for at the terminal.

    Raises:
        UserError: If it cannot be loaded, if its weights are pickles, or if it has code of its own that is not trusted.
    """

    def __init__(self, path: str, device: str | None, *, trust_remote_code: bool = False) -> None:
        from sentence_transformers import SentenceTransformer

        folder = local_path(path)
        if folder.is_dir() and (pickles := _pickles(folder)):
            raise UserError(f"encoder.path: {pickles[0]} is not read. {PICKLES}")
        try:
            self._model = SentenceTransformer(
                str(folder),
                device=device,
                trust_remote_code=trust_remote_code,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError) as error:
            if "trust_remote_code" in str(error):
                raise UserError(
                    f"encoder.trust_remote_code: {path} comes with code of its own; nothing of it was run. If you trust"
                    " it, set encoder.trust_remote_code=true."
                ) from error
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"cannot load encoder.path={path} with sentence-transformers: {reason}") from error

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences width"]:
        """Encode sentences."""
        vectors: Tensor = self._model.encode(list(sentences), convert_to_tensor=True, show_progress_bar=False)
        return vectors.float().cpu()


def _pickles(folder: Path) -> list[Path]:
    """List the weights of modules that are there as pickles only: sentence-transformers would read them."""
    return [file for file in folder.rglob("pytorch_model*.bin") if not any(file.parent.glob("*.safetensors"))]
