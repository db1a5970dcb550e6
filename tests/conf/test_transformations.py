"""What the options of `transformation` ask, word by word."""

from sempa_lightning.entry import instantiate

# beneroth13/llm-text-embeddings, data_augmentation/augmented_batch_generator.py, prompt_templates.
ROTH = {
    "detail": "Rewrite the following sentence with more detail, keeping the original meaning."
    " Respond with only the rewritten sentence:\n\n'{sentence}'",
    "simpler": "Paraphrase this sentence using simpler language."
    " Respond with only the rewritten sentence:\n\n'{sentence}'",
    "teacher": "You're a high school teacher. Explain this sentence to your students in your own words."
    " Respond with only the explanation:\n\n'{sentence}'",
    "metaphor": "Write a metaphor that expresses the same idea as this sentence."
    " Respond with only the metaphor:\n\n'{sentence}'",
    "question": "After reading this sentence, what is a natural question someone might ask?"
    " Respond with only the question:\n\n'{sentence}'",
}
SYSTEM = "You are a helpful assistant. Always respond only in English. Do not use any Chinese or other languages."


def asked(compose, *words):
    cfg = compose("synthesize", *words)
    return instantiate(cfg.transformation), cfg


def test_the_transformations_of_roth_et_al(compose):
    prompts, cfg = asked(compose)
    assert {name: prompt.text for name, prompt in prompts.items()} == ROTH
    assert {prompt.system for prompt in prompts.values()} == {SYSTEM}
    assert (cfg.prompts_per_sentence, cfg.outputs_per_prompt) == (1, 1)  # one drawn for each sentence
    assert (cfg.sampling.temperature, cfg.sampling.top_p, cfg.sampling.max_new_tokens) == (0.6, 0.9, 100)


def test_the_paraphrase_prompts_of_sempa(compose):
    names = ("keep_meaning", "generate_preserving", "rewrite_simplified", "rewrite_differently", "generate")
    prompts, _ = asked(compose, "transformation=sempa")
    assert prompts == {name: instantiate(compose("train", f"prompt={name}").prompt) for name in names}


def test_some_of_them_and_one_s_own(compose):
    assert list(asked(compose, "transformation=[metaphor,detail]")[0]) == ["metaphor", "detail"]
    own = ["transformation=paraphrase", "prompt.text='Say {sentence} otherwise'"]
    assert asked(compose, *own)[0]["paraphrase"].text == "Say {sentence} otherwise"


def test_a_ranking_asks_the_prompt_of_training_several_times(compose):
    prompts, cfg = asked(compose, "rows=ranked", "model=nano")
    assert prompts == {"paraphrase": instantiate(compose("train", "prompt=in_other_words").prompt)}
    assert cfg.outputs_per_prompt > 1
    assert cfg.sampling.temperature > 0
