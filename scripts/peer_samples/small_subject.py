"""A small random Llama with a word-level tokenizer, and texts for it: no download is needed."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_NOUNS = ["cat", "dog", "mat", "sun"]
_OTHERS = ["the", "a", "sat", "ran", "lay", "on", "by", "under", "and"]
WORDS = ["<bos>", "<end>", "<unk>", *_NOUNS, *_OTHERS]
_RANDOM = torch.Generator().manual_seed(0)
TEXTS = [
    " ".join(WORDS[i] for i in torch.randint(3, len(WORDS), (n,), generator=_RANDOM).tolist())
    for n in torch.randint(5, 40, (40,), generator=_RANDOM).tolist()
]


def write_small_subject(folder: Path) -> Path:
    """Width 8, 3 layers; written as transformers writes it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<end>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder
