"""A readout of a live policy as mteb wants its models; imported only where mteb is installed."""

import hashlib
from collections.abc import Iterable
from typing import Any

from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from torch import Tensor

from sempa_lightning.evaluation.task import Subject
from sempa_lightning.models.causal_lm import causal_lm, max_positions
from sempa_lightning.models.embedding_cache import weights_name
from sempa_lightning.models.readout_name import readout_name

_OWNER = "sempa-lightning"


class SubjectEncoder(AbsEncoder):  # type: ignore[misc]
    """Encodes for mteb.

    mteb keeps scores by name and revision of a model. The revision is a hash of weights, active adapters and readout,
    so that neither another checkpoint nor another readout is given the scores of this one. mteb's own prompts are not
    used: the readout has its own.

    Args:
        subject: Whose embeddings.
    """

    def __init__(self, subject: Subject) -> None:
        self._embedder = subject.embedder
        content = f"{weights_name(subject.model)} {readout_name(subject.readout)}"
        model = causal_lm(subject.model)
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"{_OWNER}/{type(model).__name__}",
                "revision": hashlib.sha256(content.encode()).hexdigest(),
                "n_parameters": model.num_parameters(),
                "max_tokens": max_positions(subject.model),
            }
        )

    def encode(self, inputs: Iterable[dict[str, Any]], **_: Any) -> Tensor:  # noqa: ANN401 (what mteb tells of the task)
        """Encode the texts of all batches, as float32 on the CPU."""
        return self._embedder.encode([text for batch in inputs for text in batch["text"]])
