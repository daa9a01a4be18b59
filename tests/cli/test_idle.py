"""Promise: an option that would have no effect beside the others is refused before any work, and one that has an effect is not."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

from bigr_features.cli import main
from bigr_features.cli.idle import RULES
from bigr_features.cli.main import COMMANDS, _named

REFUSED = [
    ("plot s --method umap --perplexity 5", "--perplexity 5.0 has no effect without --method tsne"),
    ("plot s --n-neighbors 5", "--n-neighbors 5 has no effect without --method umap"),
    ("plot s --method pca --backend opentsne", "--backend opentsne has no effect without --method tsne"),
    ("plot s --images d", "--images d has no effect without --html"),
    ("plot s --no-thumbnails", "--no-thumbnails has no effect without --html"),
    ("probe --train s --out o --epochs 3", "--epochs 3 has no effect without --protocol mae"),
    ("probe --train s --out o --protocol mae --Cs 1", "--Cs 1.0 has no effect without --protocol exact"),
    ("sweep --train s --out o --probes exact --k 5", "--k 5 has no effect without knn among --probes"),
    ("sweep --train s --out o --base-lrs 1", "--base-lrs 1.0 has no effect without mae among --probes"),
    ("extract --model bigr_nano --source sample:digits --out o --ray-gpus 1", "--ray-gpus 1.0 has no effect without --ray"),
    ("index --store s --feature f --out o --model resnet18", "--model resnet18 has no effect without --source"),
    ("index --source d --out o --feature f", "--feature f has no effect without --store"),
    ("search g --ids a --layer 3", "--layer 3 has no effect without image files"),
    ("search g --by-class a --combine", "--combine has no effect without image files or --ids"),
    ("serve --model none --weights w", "--weights w has no effect without --model"),
    ("generate --unconditional 2 --guidance-scale 4", "--guidance-scale 4.0 has no effect without classes"),
    ("generate --unconditional 2 --num-per-label 4", "--num-per-label 4 has no effect without classes"),
    ("generate --gumbel-schedule up", "--gumbel-schedule up has no effect without --gumbel-temperature above 0"),
    ("generate --guidance-scale 1 --guidance-schedule linear", "--guidance-schedule linear has no effect without --guidance-scale above 1"),
    ("interpolate --mixture 0.5 0.5 --num-images 3", "--num-images 3 has no effect without a way between classes"),
    ("inpaint a.png --guidance-scale 4", "--guidance-scale 4.0 has no effect without --labels"),
    ("enrich a.png --guidance-scale 4", "--guidance-scale 4.0 has no effect without --labels"),
    ("encode --tokenizer t --source sample:digits --out o --seed 3", "--seed 3 has no effect without --sample-bits"),
    ("train --tokenizer t --out o --codes c --no-flip", "--no-flip has no effect without --source"),
    ("train --tokenizer t --out o --codes c --num-workers 2", "--num-workers 2 has no effect without --source"),
    ("train --tokenizer t --out o --codes c --sample-every 0 --num-samples 4", "--num-samples 4 has no effect without --sample-every"),
    ("train --tokenizer t --out o --codes c --unconditional --guidance-scale 4", "--guidance-scale 4.0 has no effect without labels"),
    ("evaluate-generation d --network n --samples s --out o --unconditional", "--unconditional has no effect without --model"),
    ("train-tokenizer --source sample:digits --out o --perceptual-weight 2", "has no effect without --perceptual"),
    ("train-tokenizer --source sample:digits --out o --discriminator-width 8", "has no effect without --adversarial-weight above 0"),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_an_option_without_effect_is_refused(line, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line))
    assert message in ended.value.code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", RULES)
def test_every_rule_names_options_of_its_command_and_defaults_pass(command):
    kind = _named(COMMANDS[command][0])
    names = {field.name for field in dataclasses.fields(kind)}
    for rule in RULES[command]:
        assert set(rule.names) <= names
    tried = {line.split()[0] for line, _ in REFUSED}
    assert command in tried | {"outpaint", "edit"}  # which share the rules of inpaint and generate


def test_batches_and_workers_of_a_search_are_not_offered(capsys):
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    out = capsys.readouterr().out
    assert "--batch-size" not in out
    assert "--num-workers" not in out
