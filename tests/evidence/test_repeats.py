import torch

from autointerp.evidence.repeats import text_keys


def keys(tokens, window, repeats):
    return text_keys(torch.tensor(tokens), 0, window, repeats)


def test_exact_keys_are_those_of_equal_tokens_wherever_they_stand():
    text = torch.randint(0, 50, (20,)).tolist()
    found = keys([[7, 7, *text, 1, 2], [*text, 3, 4, 5, 6]], 20, "exact")
    assert found[0, 2] == found[1, 0]
    assert len(found.unique()) == found.numel() - 1


def test_near_keys_are_shared_by_windows_of_nearly_one_text():
    torch.manual_seed(0)
    window, n = 32, 400
    texts = torch.randint(0, 500, (n, window))
    moved = torch.cat([texts[:, 2:], torch.randint(0, 500, (n, 2))], 1)  # 27 of 31 shingles shared
    half = torch.cat([texts[:, :16], torch.randint(0, 500, (n, 16))], 1)  # 13 of 45

    def share(others):
        return float(
            (text_keys(texts, 0, window, "near") == text_keys(others, 0, window, "near"))
            .float()
            .mean()
        )

    assert share(texts) == 1
    assert abs(share(moved) - (27 / 31) ** 2) < 0.08
    assert abs(share(half) - (13 / 45) ** 2) < 0.06
    assert share(texts.roll(1, 0)) == 0


def test_every_context_has_a_key_of_its_own_where_repeats_are_kept():
    found = keys([[1, 1, 1], [1, 1, 1]], 2, "none")
    assert found[0].tolist() == [found[0, 0]] * 2
    assert found[0, 0] != found[1, 0]
