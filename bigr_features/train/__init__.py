"""Training of tokenizers and generators. The scripts are `tokenizer`, `code_cache` and `generator`; the rest is what they share."""
