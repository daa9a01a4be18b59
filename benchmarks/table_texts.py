"""What benchmarks/README.md says in words: how the shipped weights were made, and where we differ from the public code."""

INTRODUCTION = """# Results and protocols

Every table below is written by `python benchmarks/tables.py` from the JSON files in [results](results), which name command, hardware, versions and seed; nothing is typed by hand. Times of different machines are not comparable. Nothing was chosen on test images."""

RECIPES = """The shipped `bigr_nano` was made by these commands, on one CPU core each, in bf16; `$DATA` is `zalando-datasets/fashion_mnist` or a folder with its parquet
files. The tokenizer and its codes:

```bash
bigr train-tokenizer --source $DATA --out runs/tokenizer --steps 3500 --batch-size 32 --learning-rate 2e-3 --threads 1
bigr encode --tokenizer runs/tokenizer/model --source $DATA --out runs/codes
TRAIN="bigr train --codes runs/codes --tokenizer runs/tokenizer/model --batch-size 64 --learning-rate 1e-3 \\
    --validation 2000 --threads 1"
```

`bigr_nano.fashion_mnist_uncond`, an hour:

```bash
$TRAIN --out runs/uncond --unconditional --timesteps-per-token 4 --schedule cosine --steps 8500 --keep-steps 7500 \\
    --ema-decay 0.999 --compile
bigr export --run runs/uncond --out weights --name fashion_mnist_uncond --step 7500
```

`bigr_nano.fashion_mnist`, as it grew, in three parts; a new one is better trained like the one above, without `--unconditional`:

```bash
$TRAIN --out runs/first --model.rope-base 10000 --steps 5000 --ema-decay 0.9995
bigr export --run runs/first --out runs/first_weights --dtype float32
$TRAIN --out runs/second --weights runs/first_weights/model --model.rope-base 10000 --model.class-dropout 0.5 --warmup-steps 200 --steps 10500 \\
    --ema-decay 0.9995 --compile
bigr export --run runs/second --out runs/second_weights --dtype float32
$TRAIN --out runs/third --weights runs/second_weights/model --model.class-dropout 0.5 --timesteps-per-token 4 --warmup-steps 200 \\
    --schedule cosine --steps 8500 --keep-steps 7500 --ema-decay 0.999 --compile
bigr export --run runs/third --out weights --name fashion_mnist --step 7500
```

`bigr_nano_t2i.fashion_mnist` goes on from `bigr_nano.fashion_mnist`, on synthetic captions, for 65 minutes:

```bash
python benchmarks/synthetic_captions.py --data $DATA --out runs/captions/train.parquet
bigr encode --tokenizer runs/tokenizer/model --source runs/captions/train.parquet --out runs/captioned_codes
bigr train --preset bigr_nano_t2i --text words --codes runs/captioned_codes --captions runs/captions/train.parquet \\
    --tokenizer runs/tokenizer/model --weights weights/fashion_mnist --out runs/t2i --learning-rate 1e-3 --schedule cosine \\
    --steps 4500 --warmup-steps 50 --ema-decay 0.999 --timesteps-per-token 2 --validation 500 --batch-size 64 --threads 1
bigr export --run runs/t2i --out weights --name fashion_mnist_t2i
```"""

ODDITIES = """The released weights are followed where the paper is silent, and where the public code is known to be wrong, ours is not: known tokens are
never overwritten in editing, guidance 1.0 works, several condition tokens work with adaLN. Two oddities are kept on purpose, because the released
weights were trained or sampled with them: the rotary rows of the condition token are zero, and the reverse step mixes before it normalises
(`posterior="official"`; `posterior="exact"` is the true marginal)."""
