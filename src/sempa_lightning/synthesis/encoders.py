"""What embeds sentences and outputs, to compare them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sempa_lightning.assets import local_path
from sempa_lightning.errors import UserError
from sempa_lightning.models.causal_lm import LanguageModel, placed
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

    Raises:
        UserError: If it cannot be loaded.
    """

    def __init__(self, path: str, device: str | None) -> None:
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(str(local_path(path)), device=device)
        except (OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"cannot load encoder.path={path} with sentence-transformers: {reason}") from error

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences width"]:
        """Encode sentences."""
        vectors: Tensor = self._model.encode(list(sentences), convert_to_tensor=True, show_progress_bar=False)
        return vectors.float().cpu()
