"""Scores to feed losses with."""

import pytest
import torch


@pytest.fixture(scope="session")
def scores_of():
    """Scores with these log-ratios; all there, one chosen, and of one token each unless told otherwise."""
    from sempa_lightning.types import CandidateScores

    def scores_of(log_ratios, mask=None, *, num_chosen=1, lengths=None, policy_logps=None, center=0.0):
        return CandidateScores(
            torch.full_like(log_ratios, torch.nan) if policy_logps is None else policy_logps,
            log_ratios,
            torch.ones(log_ratios.shape, dtype=torch.long) if lengths is None else lengths,
            torch.ones(log_ratios.shape, dtype=torch.bool) if mask is None else mask,
            torch.full((len(log_ratios),), num_chosen),
            torch.tensor(center, dtype=log_ratios.dtype),
        )

    return scores_of
