"""A device with little memory."""

import torch
from lightning import Callback

from sempa_lightning.models.causal_lm import decoder


class SmallMemory(Callback):
    """Lets training, but not evaluation, run out of memory where a forward pass has more tokens than fit.

    Args:
        tokens: How many fit.
        rank: The process that this happens to.
    """

    def __init__(self, tokens, rank=0):
        self._tokens = tokens
        self._rank = rank
        self._in_training = False

    def on_fit_start(self, trainer, pl_module):
        if trainer.global_rank == self._rank:
            decoder(pl_module.policy).register_forward_pre_hook(self._allocate, with_kwargs=True)

    def on_train_batch_start(self, *_):
        self._in_training = True

    def on_train_batch_end(self, *_):
        self._in_training = False

    def _allocate(self, _module, _args, inputs):
        if self._in_training and inputs["input_ids"].numel() > self._tokens:
            raise torch.OutOfMemoryError
