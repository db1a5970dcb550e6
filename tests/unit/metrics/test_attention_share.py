import pytest
import torch

from sempa_lightning.metrics.attention_share import part_masses, per_token, shares, shares_of_rest

# Roth et al. (2025), the last layer's attention from the last token, without the begin token: This sentence : " |
# a man is driving a car | " belongs to the following cluster | :
PARTS = torch.tensor([0, *[1] * 4, *[2] * 6, *[3] * 6, 4])
PUBLISHED = {
    "prompting only": [
        *(0.00280, 0.00946, 0.01233, 0.01367, 0.01075, 0.00693, 0.00172, 0.00711, 0.00317, 0.01307),
        *(0.01187, 0.00935, 0.02036, 0.02036, 0.01558, 0.04964, 0.18441),
    ],
    "100 steps": [
        *(0.00092, 0.00204, 0.00393, 0.00602, 0.00771, 0.01245, 0.00542, 0.02487, 0.01281, 0.03630),
        *(0.00628, 0.00327, 0.01740, 0.01283, 0.00861, 0.02650, 0.15320),
    ],
}


@pytest.mark.parametrize(
    ("state", "expected", "text_of_rest"),
    [
        ("prompting only", [0.6074, 0.0383, 0.0428, 0.1272, 0.1844], 0.109),
        ("100 steps", [0.6594, 0.0129, 0.0996, 0.0749, 0.1532], 0.292),
    ],
)
def test_shares_of_a_published_picture(state, expected, text_of_rest):
    rest = torch.tensor(PUBLISHED[state])
    masses = part_masses(torch.cat([1 - rest.sum()[None], rest])[None], PARTS, 5)[None]
    torch.testing.assert_close(shares(masses)[0], torch.tensor(expected), rtol=0, atol=1e-4)
    assert float(shares_of_rest(masses)[0, 2]) == pytest.approx(text_of_rest, abs=1e-3)
    assert float(shares_of_rest(masses).sum()) == pytest.approx(1)
    counts = PARTS.bincount(minlength=5)[None].float()
    assert float(per_token(masses, counts)[0, 2]) == pytest.approx(expected[2] / 6, abs=1e-5)


def test_over_texts_by_hand():
    """Two texts, one layer: half and a fifth to the begin; a long text counts for its tokens, not its length."""
    masses = torch.tensor([[[0.5, 0.3, 0.2]], [[0.2, 0.0, 0.8]]])
    counts = torch.tensor([[1.0, 2.0, 1.0], [1.0, 0.0, 4.0]])
    torch.testing.assert_close(shares(masses), torch.tensor([[0.35, 0.15, 0.5]]))
    torch.testing.assert_close(shares_of_rest(masses), torch.tensor([[0.0, 0.15 / 0.65, 0.5 / 0.65]]))
    torch.testing.assert_close(per_token(masses, counts), torch.tensor([[0.35, 0.15, 0.2]]))


def test_an_absent_part_receives_nothing():
    masses = part_masses(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), torch.tensor([0, 2]), 3)
    torch.testing.assert_close(masses, torch.tensor([[0.25, 0.0, 0.75], [1.0, 0.0, 0.0]]))
    assert per_token(masses[None], torch.tensor([[1.0, 0.0, 1.0]]))[0, 1] == 0
