"""Each loss that TRL has gives what TRL's trainer gives on the same batch; where it does not, it is shown why."""

import copy
from types import SimpleNamespace

import pytest
import torch

from sempa_lightning.losses.apo_down import ApoDown
from sempa_lightning.losses.apo_zero import ApoZero
from sempa_lightning.losses.bco import Bco
from sempa_lightning.losses.discopop import Discopop
from sempa_lightning.losses.divergences import AlphaDivergence, JensenShannon, ReverseKl
from sempa_lightning.losses.exo import Exo
from sempa_lightning.losses.hinge import Hinge
from sempa_lightning.losses.ipo import Ipo
from sempa_lightning.losses.mixture import Mixture
from sempa_lightning.losses.nca import Nca
from sempa_lightning.losses.plackett_luce import PlackettLuce
from sempa_lightning.losses.robust import Robust
from sempa_lightning.losses.sigmoid import Sigmoid
from sempa_lightning.losses.sigmoid_norm import SigmoidNorm
from sempa_lightning.losses.simpo import SimPo
from sempa_lightning.losses.sppo import Sppo
from sempa_lightning.losses.wpo import Wpo
from sempa_lightning.scoring.logps import completion_logps
from sempa_lightning.scoring.packed import Packed
from sempa_lightning.scoring.padded import pad
from sempa_lightning.scoring.reference import Lent
from sempa_lightning.training.objectives.preference import Preference
from sempa_lightning.types import CandidateScores, StepBatch, TokenizedRow

pytest.importorskip("trl")
# TRL 1.16 sets an option by the name that it had before transformers 5.23.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")

ROWS = {
    "prompt": ["A dog runs.", "It rains a lot.", "She sings.", "The door is open."],
    "chosen": [" A dog is running.", " Much rain falls.", " A woman is singing a song.", " One may come in."],
    "rejected": [
        " A cat sleeps.",
        " The sun shines on all of us.",
        " Nobody sings.",
        " It is shut, and nobody is there.",
    ],
}
BETA = 0.3


@pytest.fixture(scope="module")
def side_by_side(tiny_tokenizer, tmp_path_factory):
    """TRL's trainer on a policy and a reference that differ, the same models, and the batch in both forms."""
    import datasets
    from huggingface_hub import constants
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL reports each trainer that is built

    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.07,
        pad_token_id=tiny_tokenizer.pad_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        bos_token_id=tiny_tokenizer.bos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy, reference = (LlamaForCausalLM(config).eval() for _ in range(2))
    settings = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        beta=BETA,
        max_length=None,
        per_device_train_batch_size=len(ROWS["prompt"]),
        use_weighting=True,  # the trainer gathers what it needs for it
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = DPOTrainer(
        copy.deepcopy(policy),
        ref_model=copy.deepcopy(reference),
        args=settings,
        train_dataset=datasets.Dataset.from_dict(ROWS),
        processing_class=copy.deepcopy(tiny_tokenizer),
    )
    theirs = next(iter(trainer.get_train_dataloader()))
    rows = [
        TokenizedRow(str(place), row["prompt_ids"], [row["chosen_ids"], row["rejected_ids"]], 1)
        for place, row in enumerate(trainer.train_dataset)
    ]
    return SimpleNamespace(trainer=trainer, theirs=theirs, rows=rows, policy=policy, reference=reference)


def trl_loss(side_by_side, loss_types, **settings):
    trainer = side_by_side.trainer
    trainer.loss_types, trainer.loss_weights = loss_types, settings.pop("loss_weights", [1.0] * len(loss_types))
    defaults = {"f_divergence_type": "reverse_kl", "label_smoothing": 0.0, "ld_alpha": None, "use_weighting": False}
    for name, value in {**defaults, "f_alpha_divergence_coef": 0.5, **settings}.items():
        setattr(trainer, name, value)
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, dict(side_by_side.theirs)).item()


def our_loss(side_by_side, loss, **settings):
    step = StepBatch([Packed(1000)(side_by_side.rows, 0)], len(side_by_side.rows), [1.0])
    objective = Preference(loss, nll_weight=0.0, kl_weight=0.0, **settings)
    with torch.no_grad():
        return next(objective(side_by_side.policy, Lent(side_by_side.reference), step)).losses.mean().item()


def scores(side_by_side):
    batch = pad(side_by_side.rows, 0)
    with torch.no_grad():
        logps, reference_logps = (
            completion_logps(model, batch) for model in (side_by_side.policy, side_by_side.reference)
        )
    return CandidateScores(
        logps,
        logps - reference_logps,
        batch.completion_lengths,
        batch.candidate_mask,
        batch.num_chosen,
        center=torch.tensor(0.0),
    )


CASES = {
    "sigmoid": (["sigmoid"], {}, Sigmoid(BETA), {}),
    "sigmoid, as Plackett-Luce": (["sigmoid"], {}, PlackettLuce(BETA), {}),
    "hinge": (["hinge"], {}, Hinge(BETA), {}),
    "ipo": (["ipo"], {}, Ipo(BETA), {}),
    "robust": (["robust"], {"label_smoothing": 0.2}, Robust(BETA, 0.2), {}),
    "exo": (["exo_pair"], {"label_smoothing": 0.05}, Exo(BETA, 0.05), {}),
    "nca": (["nca_pair"], {}, Nca(BETA), {}),
    "sppo": (["sppo_hard"], {}, Sppo(BETA), {}),
    "apo_zero": (["apo_zero"], {}, ApoZero(BETA), {}),
    "apo_down": (["apo_down"], {}, ApoDown(BETA), {}),
    "discopop": (["discopop"], {}, Discopop(BETA, 0.05), {}),
    "sigmoid_norm": (["sigmoid_norm"], {}, SigmoidNorm(BETA), {}),
    "mixture": (
        ["sigmoid", "nca_pair"],
        {"loss_weights": [0.8, 0.2]},
        Mixture(BETA, {"a": Sigmoid(BETA), "b": Nca(BETA)}, {"a": 0.8, "b": 0.2}),
        {},
    ),
    "ld-dpo": (["sigmoid"], {"ld_alpha": 0.4}, Sigmoid(BETA), {"tail_weight": 0.4}),
    "ld-dpo of hinge": (["hinge"], {"ld_alpha": 0.0}, Hinge(BETA), {"tail_weight": 0.0}),
    "forward kl": (
        ["sigmoid"],
        {"f_divergence_type": "forward_kl"},
        Sigmoid(BETA),
        {"divergence": AlphaDivergence(1.0)},
    ),
    "jensen-shannon": (["hinge"], {"f_divergence_type": "js_divergence"}, Hinge(BETA), {"divergence": JensenShannon()}),
    # Their coefficient is 1 - alpha.
    "alpha": (
        ["robust"],
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7, "label_smoothing": 0.1},
        Robust(BETA, 0.1),
        {"divergence": AlphaDivergence(0.3)},
    ),
}


def test_the_batch_tells_losses_apart(side_by_side):
    log_ratios, lengths = scores(side_by_side).log_ratios, scores(side_by_side).completion_lengths
    assert (log_ratios[:, 0] - log_ratios[:, 1]).abs().max() > 1
    assert (lengths[:, 0] > lengths[:, 1]).any()
    assert (lengths[:, 0] < lengths[:, 1]).any()


@pytest.mark.parametrize("case", CASES)
def test_same_loss(side_by_side, case):
    names, their_settings, loss, our_settings = CASES[case]
    expected = trl_loss(side_by_side, names, **their_settings)
    assert our_loss(side_by_side, loss, **our_settings) == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_simpo(side_by_side):
    """Of TRL's CPO trainer."""
    from trl.experimental.cpo import CPOTrainer

    settings = SimpleNamespace(
        alpha=0.0,
        loss_type="simpo",
        simpo_gamma=0.7,
        beta=2.0,
        label_smoothing=0.0,
        accelerator=side_by_side.trainer.accelerator,
    )
    found = scores(side_by_side)
    means = found.per_token(found.policy_logps)
    expected = CPOTrainer.cpo_loss(settings, means[:, 0], means[:, 1])[0].mean().item()
    assert our_loss(side_by_side, SimPo(2.0, 0.7)) == pytest.approx(expected, abs=1e-5)


def test_label_smoothing_is_ignored_there(side_by_side):
    """TRL's sigmoid takes the option and trains without it; here it counts."""
    plain = trl_loss(side_by_side, ["sigmoid"])
    assert trl_loss(side_by_side, ["sigmoid"], label_smoothing=0.2) == plain
    smoothed = our_loss(side_by_side, Sigmoid(BETA, 0.2))
    flipped = scores(side_by_side)
    flipped = flipped._replace(log_ratios=flipped.log_ratios.flip(1))
    assert smoothed == pytest.approx(0.8 * plain + 0.2 * Sigmoid(BETA)(flipped).mean().item(), abs=1e-5)
    assert abs(smoothed - plain) > 1e-3


def test_bco_has_no_shift_there(side_by_side):
    """Which is our loss with a shift of 0; the exact one changes the value."""
    expected = trl_loss(side_by_side, ["bco_pair"])
    assert Bco(BETA)(scores(side_by_side)).mean().item() == pytest.approx(expected, abs=1e-5)
    center = scores(side_by_side).log_ratios.mean()
    shifted = Bco(BETA)(scores(side_by_side)._replace(center=center)).mean().item()
    assert our_loss(side_by_side, Bco(BETA)) == pytest.approx(shifted, abs=1e-5)
    assert abs(shifted - expected) > 1e-3


@pytest.mark.parametrize(("name", "loss"), [("sigmoid", Sigmoid(BETA)), ("ipo", Ipo(BETA))])
def test_wpo_weights_are_aligned_there(side_by_side, name, loss):
    """They divide by the sum of squared probabilities at each token, a factor for each pair."""
    expected = trl_loss(side_by_side, [name], use_weighting=True)
    found, rows = scores(side_by_side), side_by_side.rows
    factors = []
    for row in rows:
        total = 0.0
        for completion in row.completion_ids:
            with torch.no_grad():
                logits = side_by_side.policy(torch.tensor([row.prompt_ids + completion])).logits[0].double()
            squares = logits.softmax(-1).square().sum(-1).log()[len(row.prompt_ids) - 1 : -1]
            total += squares.mean().item()
        factors.append(torch.tensor(-total).exp())
    ours = Wpo(BETA, loss)(found)
    assert our_loss(side_by_side, Wpo(BETA, loss)) == pytest.approx(ours.mean().item(), abs=1e-6)
    assert (ours * torch.stack(factors)).mean().item() == pytest.approx(expected, rel=1e-5)


def test_what_they_take_and_we_refuse(side_by_side):
    """Lengths keep the prompt's constant from cancelling in an f-divergence."""
    from sempa_lightning.errors import UserError

    assert isinstance(trl_loss(side_by_side, ["ipo"], f_divergence_type="js_divergence"), float)
    with pytest.raises(UserError, match="divergence="):
        Preference(Ipo(BETA), 0.0, 0.0, JensenShannon())
    assert our_loss(side_by_side, Ipo(BETA), divergence=ReverseKl()) == our_loss(side_by_side, Ipo(BETA))
