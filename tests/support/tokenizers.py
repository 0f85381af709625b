"""Small tokenizers and subject folders for tests."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.support.tiny import tiny_model

WORDS = ["<end>", "the", "cat", "sat", "on", "mat", "<unk>"]
# Turns as <user> … <end>, so that a word-level tokenizer can tell them.
CHAT_WORDS = [*WORDS, "<bos>", "<user>", "<assistant>", "<system>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %} <{{ m['role'] }}> {{ m['content'] | trim }} <end>"
    "{% endfor %}"
)


def word_tokenizer(words: list[str] = WORDS, *, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", words.index("<bos>"))]
        )
    special = {"bos_token": "<bos>"} if "<bos>" in words else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>", **special
    )


def chat_tokenizer(*, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer(CHAT_WORDS, adds_bos=adds_bos)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_subject(path: Path, width: int = 16) -> Path:
    """A random Llama with a word-level tokenizer."""
    word_tokenizer().save_pretrained(path)
    if width == 16:
        tiny_model("llama").save_pretrained(path)
    else:
        config = LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=width,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=1,
        )
        LlamaForCausalLM(config).save_pretrained(path)
    return path
