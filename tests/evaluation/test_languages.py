import pytest

from polylm.tasks.evaluation.languages import (
    LANGUAGES,
    EvaluationError,
    aligned_paragraphs,
    find_language,
    held_out_texts,
    spread,
)


def test_all_18_languages_share_48_paragraphs_in_one_order():
    texts = aligned_paragraphs()
    assert list(texts) == list(LANGUAGES)
    assert {len(paragraphs) for paragraphs in texts.values()} == {48}
    assert all(text for paragraphs in texts.values() for text in paragraphs)


def test_aligned_paragraphs_are_translations_of_each_other():
    texts = aligned_paragraphs()
    place = next(i for i, text in enumerate(texts["en"]) if "deprived of his nationality" in text)
    assert "nationalité" in texts["fr"][place]
    assert "国籍" in texts["zh"][place]
    assert "国籍" in texts["ja"][place]
    assert "สัญชาติ" in texts["th"][place]


def test_vietnamese_is_written_with_composed_letters():
    assert "quyền" in "".join(held_out_texts("vi"))


def test_chinese_is_held_out_in_both_scripts():
    text = "".join(held_out_texts("zh"))
    assert "对" in text
    assert "對" in text


def test_a_language_without_texts_is_named_with_those_that_have_them():
    with pytest.raises(EvaluationError, match=r"language 'xx': evaluation texts exist for en, zh"):
        find_language("xx")


def test_spread_keeps_order_and_spans_the_whole():
    assert spread(range(100), 4) == [0, 25, 50, 75]
    assert spread([1, 2], 5) == [1, 2]
