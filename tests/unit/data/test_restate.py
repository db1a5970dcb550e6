from sempa_lightning.data.restate import restate

DOCUMENT = "One. Two!\nThree? Four.\nFive, v. six.\nSeven"


def test_the_last_of_so_many_paragraphs_says_each_sentence_twice():
    assert restate(DOCUMENT, every=2) == "One. Two!\nThree? Three? Four. Four.\nFive, v. six.\nSeven Seven"


def test_every_paragraph():
    assert restate("One. Two!\nThree", every=1) == "One. One. Two! Two!\nThree Three"


def test_short_documents_stay():
    assert restate(DOCUMENT, every=5) == DOCUMENT
