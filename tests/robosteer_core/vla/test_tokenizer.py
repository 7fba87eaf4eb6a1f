"""The small tokenizer."""

from robosteer_core.vla.tokenizer import InstructionTokenizer, train


def test_a_common_word_is_one_token_and_any_text_has_tokens():
    tokenizer = InstructionTokenizer(train(), 16)
    ids, mask = tokenizer(["press the red button", "flambé the zucchini"])
    assert mask[0].sum() == 1 + 4 + 1
    assert mask[1].sum() > 6 and (ids[1][mask[1] == 1] > 0).all()


def test_training_it_again_gives_the_same_ids():
    first, second = (InstructionTokenizer(train(), 12) for _ in range(2))
    assert (first(["pick up the blue cube"])[0] == second(["pick up the blue cube"])[0]).all()


def test_a_long_instruction_keeps_its_length_limit():
    ids, mask = InstructionTokenizer(train(), 8)(["put the green cube in the red bowl on the table"])
    assert ids.shape == (1, 8) and mask.sum() == 8
