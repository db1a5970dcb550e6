"""Drawing tokens: against probabilities by hand, and a text's continuation against its batch mates."""

import pytest
import torch

from sempa_lightning.errors import UserError
from sempa_lightning.models.generation import Sampling, continue_texts, draw

DRAWN = Sampling(max_new_tokens=12, temperature=1.5, top_p=0.9)


@pytest.mark.parametrize(
    ("number", "token"), [(0.0, 1), (0.19, 1), (0.2, 2), (0.69, 2), (0.71, 4), (0.999, 4), (1 - 2**-24, 4)]
)
def test_a_number_draws_the_token_whose_share_of_the_probability_it_falls_into(number, token):
    """Probabilities 0, 0.2, 0.5, 0, 0.3, 0: the tokens 0, 3 and 5 are never drawn."""
    logits = torch.tensor([[0.0, 0.2, 0.5, 0.0, 0.3, 0.0]]).log()
    assert draw(logits, torch.tensor([number])).tolist() == [token]


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(20_000, 3)
    numbers = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    shares = draw(logits, numbers).bincount(minlength=3) / 20_000
    assert (shares - torch.tensor([0.1, 0.6, 0.3])).abs().max() < 0.01


def test_a_continuation_does_not_depend_on_its_batch_mates(tiny_llama, tiny_tokenizer, sentences):
    texts, seeds = sentences[:7], [5, 6, 7, 8, 9, 10, 11]
    together = continue_texts(tiny_llama, tiny_tokenizer, texts, DRAWN, seeds=seeds, batch_size=7)
    alone = continue_texts(tiny_llama, tiny_tokenizer, texts, DRAWN, seeds=seeds, batch_size=1)
    backwards = continue_texts(tiny_llama, tiny_tokenizer, texts[::-1], DRAWN, seeds=seeds[::-1], batch_size=3)
    assert together == alone == backwards[::-1]
    assert len({continuation.text for continuation in together}) == 7
    other = continue_texts(tiny_llama, tiny_tokenizer, texts, DRAWN, seeds=seeds[::-1], batch_size=7)
    assert sum(one != two for one, two in zip(together, other, strict=True)) >= 5  # the middle one has its seed


def test_it_is_what_drawing_token_by_token_gives(tiny_llama, tiny_tokenizer, sentences):
    """At temperature 1.5 from the tokens that hold 0.9 of the probability, by another way of finding them."""
    ids = tiny_tokenizer(sentences[0], return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    for number in torch.rand(12, generator=torch.Generator().manual_seed(3)):
        with torch.no_grad():
            probabilities = (tiny_llama(input_ids=ids).logits[0, -1].double() / 1.5).softmax(-1)
        order = probabilities.argsort(descending=True)
        nucleus = order[: int((probabilities[order].cumsum(0) < 0.9).sum()) + 1].sort().values
        shares = (probabilities[nucleus] / probabilities[nucleus].sum()).cumsum(0)
        token = nucleus[int((shares <= number).sum())]
        ids = torch.cat([ids, token[None, None]], dim=1)
        if token == tiny_tokenizer.eos_token_id:
            break
    (continuation,) = continue_texts(tiny_llama, tiny_tokenizer, sentences[:1], DRAWN, seeds=[3])
    assert continuation.text == tiny_tokenizer.decode(ids[0, start:], skip_special_tokens=True).strip()


def test_temperature_0_takes_the_likeliest(tiny_llama, tiny_tokenizer, sentences):
    greedy = Sampling(12)
    first, second = (
        continue_texts(tiny_llama, tiny_tokenizer, sentences[:3], greedy, seeds=seeds) for seeds in ([1, 2, 3], None)
    )
    assert first == second
    assert first != continue_texts(tiny_llama, tiny_tokenizer, sentences[:3], DRAWN, seeds=[1, 2, 3])


def test_a_model_s_own_way_of_drawing_does_not_mix_in(tiny_llama, tiny_tokenizer, sentences):
    plain = continue_texts(tiny_llama, tiny_tokenizer, sentences[:3], DRAWN, seeds=[1, 2, 3])
    for name, value in {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.1}.items():
        setattr(tiny_llama.generation_config, name, value)
    assert continue_texts(tiny_llama, tiny_tokenizer, sentences[:3], DRAWN, seeds=[1, 2, 3]) == plain


def test_without_seeds_torch_s_own_generator_draws(tiny_llama, tiny_tokenizer, sentences):
    drawn = []
    for seed in 0, 0, 1:
        torch.manual_seed(seed)
        drawn.append(continue_texts(tiny_llama, tiny_tokenizer, sentences[:2], DRAWN))
    assert drawn[0] == drawn[1] != drawn[2]
    state = torch.get_rng_state()
    continue_texts(tiny_llama, tiny_tokenizer, sentences[:2], Sampling(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_ends_by_itself_is_told_from_what_breaks_off(tiny_llama, tiny_tokenizer, sentences):
    greedy = Sampling(4)
    (open_end,) = continue_texts(tiny_llama, tiny_tokenizer, sentences[:1], greedy)
    assert not open_end.ended
    ids = tiny_tokenizer(sentences[0], return_tensors="pt")["input_ids"]
    third = tiny_llama.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0)[0, -1].item()
    tiny_llama.generation_config.eos_token_id = [399, third]
    (closed,) = continue_texts(tiny_llama, tiny_tokenizer, sentences[:1], greedy)
    assert closed.ended


@pytest.mark.parametrize("values", [(0, 1.0, 1.0), (3, -0.1, 1.0), (3, 1.0, 0.0), (3, 1.0, 1.1)])
def test_sampling_that_cannot_be(values):
    with pytest.raises(UserError, match="at least one token, a temperature from 0 and a top_p above 0"):
        Sampling(*values)
