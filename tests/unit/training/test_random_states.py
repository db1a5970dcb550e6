import io
import random

import numpy as np
import torch

from sempa_lightning.training.callbacks.random_states import random_state, set_random_state


def draws():
    return random.random(), np.random.rand(), np.random.randn(), torch.rand(()).item(), torch.randn(()).item()


def test_generators_go_on_as_they_would_have():
    found = random_state()
    try:
        np.random.randn()  # every other normal number of NumPy's is kept for the next call
        content = io.BytesIO()
        torch.save(random_state(), content)
        expected = draws()
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(7)
        assert draws() != expected
        content.seek(0)
        set_random_state(torch.load(content, weights_only=True))
        assert draws() == expected
    finally:
        set_random_state(found)
