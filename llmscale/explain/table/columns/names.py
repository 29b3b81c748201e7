"""What a column's name says: which quantity it holds, in what unit, and of which data a loss is."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


def spellings(text: str) -> tuple[str, ...]:
    """The names that a text holds between blanks, in order."""
    return tuple(text.split())


ALIASES: dict[str, tuple[str, ...]] = {
    "params": spellings(
        """
        params N n_params num_params parameters parameter n_parameters num_parameters
        parameter_count param_count params_count model_params model_parameters model_size
        size_params nparams
        """
    ),
    "tokens": spellings(
        """
        tokens D n_tokens num_tokens train_tokens training_tokens tokens_seen total_tokens
        token tokens_total tokens_trained trained_tokens token_count n_train_tokens num_train_tokens
        num_training_tokens consumed_tokens tokens_consumed tokens_processed num_input_tokens_seen
        train_tokens_seen total_train_tokens total_training_tokens ntokens
        """
    ),
    "flops": spellings(
        """
        flops C compute budget train_flops training_flops total_flops flops_total flop train_compute
        training_compute compute_flops flop_budget flops_budget compute_budget total_train_flops
        total_training_flops flops_trained total_flos train_flops_total
        """
    ),
    "loss": spellings(
        """
        loss L final_loss loss_final ce_loss loss_ce cross_entropy cross_entropy_loss crossentropy
        lm_loss nll nll_loss xent last_loss end_loss mean_loss log_loss log_ppl log_perplexity
        loss_nats language_modeling_loss final_ce_loss loss_per_token
        """
    ),
}
"""Names under which a quantity is found, best first; case, blanks, dots and dashes count as `_`."""

OWN_TABLE = frozenset({"run_id", "status", "train_loss", "data_fingerprint"})
"""Columns by which a table of runs of our own is known: its loss is `loss`."""

OTHERS: dict[str, tuple[str, ...]] = {
    "params_non_embedding": spellings(
        """
        params_non_embedding non_embedding_params n_no_emb n_non_emb params_no_emb params_non_emb
        non_emb_params nonembedding_params params_nonembedding n_params_non_embedding
        n_non_embedding num_non_embedding_params non_embedding_parameters params_no_embedding
        params_wo_embedding n_params_no_emb params_without_embedding params_excl_embedding n_noemb
        non_embedding_n n_nonemb nonemb_params num_params_non_embedding n_params_non_emb
        """
    ),
    "params_total": spellings(
        """
        params_total total_params total_parameters n_params_total n_total_params num_total_params
        n_total params_with_embedding params_incl_embedding
        """
    ),
    "params_active": spellings(
        """
        params_active active_params active_parameters activated_params n_active n_active_params
        num_active_params n_params_active
        """
    ),
    "n_experts": ("n_experts", "num_experts", "experts"),
    "unique_tokens": ("unique_tokens", "tokens_unique", "n_unique_tokens", "num_unique_tokens"),
    "lr": spellings(
        """
        lr peak_lr learning_rate peak_learning_rate max_lr lr_max lr_peak base_lr
        max_learning_rate
        """
    ),
}
"""Names of other columns of numbers that are found under more than their own."""

LETTERS = ("N", "D", "C", "L")

NAMES = spellings(
    """
    run_id run_name run name trial_id trial_name exp_name experiment_name experiment exp run_uuid
    wandb_id wandb_name job_id job_name jobid trial run_path id uid uuid runname runid display_name
    run_key logdir log_dir run_dir
    """
)
"""Columns that name runs, likeliest first."""

MODEL_NAMES = spellings(
    """
    model model_name model_id checkpoint ckpt checkpoint_path ckpt_path checkpoint_name ckpt_name
    config config_name label size model_path architecture_name path file filename model_tag tag
    series variant
    """
)
"""Columns that may name runs, or only their sizes."""

_LABELS = spellings(
    """
    data dataset corpus optimizer schedule tokenizer group commit git_sha sha hash git_commit
    data_fingerprint recipe
    """
)

_COUNT_UNITS = {
    "K": spellings("k thousand thousands tsd tausend mille milliers"),
    "M": spellings(
        "m mm mil mill mio mln mn million millions millionen millón millones milioni milhões"
    ),
    "B": spellings(
        """
        b bn bln bil billion billions g giga mrd mia md mds mld milliarde milliarden milliard
        milliards miliardi miliardo
        """
    ),
    "T": spellings("t tn trn trillion trillions billionen"),
}
"""Spellings of thousand to trillion, in German, French, Spanish, Italian and Portuguese too."""
_LOSS_UNITS = {
    "nats": "nats",
    "nat": "nats",
    "bits": "bits",
    "bit": "bits",
    "ppl": "perplexity",
    "perplexity": "perplexity",
    "bpb": "bits_per_byte",
    "bpc": "bits_per_byte",
}
_ONLY_OF_LOSSES = {"nats", "nat", "ppl", "perplexity", "bpb", "bpc"}
"""Units that no score has, as `8 bits` may be of one that was quantized."""
_LOGS = {"log10": "log10", "lg": "log10", "log2": "log2", "ln": "ln", "log": "log"}
_COUNTS_OF = spellings(
    "params tokens params_non_embedding params_total params_active unique_tokens"
)

_LOSS = ("loss", "nll", "ce", "xent", "crossentropy", "losses")
_VALIDATION = spellings("val valid validation eval evaluation test dev heldout holdout valset")
_BESIDE_UNITS = spellings(
    """
    per token tokens byte char character set final best last log in hold held out loss summary
    metrics
    """
)
"""Words next to a unit that leave what it is of as it is: `final_val_bits_per_token`."""
_TRAINING = ("train", "training", "trn", "tr", "trainset")
_NO_LOSS = spellings(
    """
    std stderr stddev se sem err error var variance scale scaling weight coef coefficient aux
    auxiliary balance balancing router z kl ratio delta diff grad spike count n step pred predicted
    fitted initial init start first gap drop
    """
)
_RISING = spellings(
    """
    acc accuracy f1 bleu rouge em winrate reward mmlu hellaswag score auc recall precision correct
    arc piqa winogrande gsm8k humaneval lambada_acc r2 map
    chrf rouge1 rouge2 rougel rougelsum meteor
    """
)
ERRORS = ("err", "error", "errors", "wer", "cer")
"""Words for a share of wrong answers, in a column that holds the score of a task."""
_LIKE_LOSSES = ("logloss", "logprob", "logprobs", "logperplexity", "surprisal")
_OF_HUNDRED = ("bleu", "chrf", "percent", "pct")


@dataclass(frozen=True)
class Name:
    """A column's name taken apart: `base` is n_params of `n_params (M)`, `unit` is M or None."""

    base: str
    unit: str | None


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, small: val, cross, entropy of `val/CrossEntropy`; `10^9` is `1e9`."""
    name = re.sub(r"10\s*(?:\^|\*\*)\s*(\d+)", r"1e\1", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z]{2})(?=[A-Z])", " ", name)
    return tuple(word for word in re.split(r"[^0-9a-z]+", name.lower().replace("+", "")) if word)


def plain(name: str) -> str:
    """The words of a name joined by `_`: what two spellings of one name share."""
    return "_".join(words_of(name))


def last_part(name: str) -> str:
    """The last part of a nested name, small: val_loss of `summary.val_loss`, loss of `val/loss`."""
    last = re.split(r"[./](?![^(\[]*[)\]])", name.rstrip("./ "))[-1].strip().lower()
    return re.sub(r"^(user|system)_attrs_", "", last)


def names_things(name: str) -> bool:
    """Whether a column holds names, which are texts even if they look like numbers."""
    return plain(last_part(name)) in (*NAMES, *MODEL_NAMES, *_LABELS)


def columns_named(columns: Iterable[object], wanted: Sequence[str]) -> Iterator[str]:
    """The columns that a wanted name is the plain name, or its last part, of; best names first."""
    for one in wanted:
        for name in map(str, columns):
            if one in (plain(name), plain(last_part(name))):
                yield name


def quantity_of(name: str) -> str:
    """The quantity that `name` is one of the names of (`D` is `tokens`), or `name` itself."""
    for quantity, aliases in ALIASES.items():
        if name.lower() in (alias.lower() for alias in aliases):
            return quantity
    return name


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean X?` if a known name is close to `name`, else nothing."""
    lower = {item.lower(): item for item in reversed(known)}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.6)
    return f"; did you mean {lower[close[0]]}?" if close else ""


def read_name(name: str, quantity: str) -> Name:
    """The name of a column of `quantity` without its unit, and the unit as in `--units`."""
    words = words_of(name)
    if quantity == "loss":
        return _loss_name(words)
    if len(words) > 1 and words[0] in _LOGS and quantity != "lr":
        return Name("_".join(words[1:]), _LOGS[words[0]])
    if quantity == "flops":
        return _flops_name(words)
    if quantity == "tokens":
        name = re.sub(r",\s*(unique|trained|seen)(?=[)\]])", "", name)  # a remark next to the unit
        return _count_name(words_of(name), name)
    if quantity in _COUNTS_OF:
        return _count_name(words, name)
    return Name("_".join(words), None)


def is_only_unit(name: str) -> bool:
    """Whether a name is nothing but a unit, such as `perplexity`."""
    return read_name(name, "loss").base in ("ppl", "perplexity", "bits", "nats")


def is_loss(name: str) -> bool:
    """Whether a name is that of a loss of any data."""
    words = set(words_of(name))
    named = bool(words & set(_LOSS)) or {"cross", "entropy"} <= words
    return named and not words & set(_NO_LOSS)


def says_loss(name: str) -> bool:
    """Whether a name has a word for a loss or a unit of one, whatever else it says: `loss_c4`,
    `arc_easy_bpb`; `acc_4_bits` is of a model of 4 bits."""
    words = words_of(name)
    said = {*words} & {*_LOSS, *_ONLY_OF_LOSSES, *_LIKE_LOSSES} or {"cross", "entropy"} <= {*words}
    before = words[words.index("bits") - 1] if "bits" in words[1:] else ""
    return bool(said) or ("bits" in words and not before.isdigit())


def is_validation(name: str) -> bool:
    """Whether a loss's name says that it is of data not trained on."""
    words = set(words_of(name))
    validation = words & set(_VALIDATION) or re.search("h[eo]ld[-_ ]?out", name.lower())
    return bool(validation) and not words & set(_TRAINING)


def only_validation(name: str) -> bool:
    """Whether a name, or its last part, says validation and nothing else: `val`, `Eval (nats)`."""
    words = {*words_of(last_part(name))} - {*_LOSS_UNITS, "per", "token", "set", "final"}
    return bool(words) and words <= set(_VALIDATION)


def validation_in_units(name: str, *, of_one_text: bool = False) -> bool:
    """Whether a name says validation and a unit of losses: `eval_ppl`, `val/bits_per_byte`.
    `of_one_text` allows words of a text or a task next to them: `eval_wikitext_ppl`."""
    words, last = {*words_of(name)}, last_part(name)
    if not is_validation(name) or not (words & {*_LOSS_UNITS} or per_byte(name)):
        return False
    if words & {*_NO_LOSS, *_RISING}:
        return False
    known = {*_VALIDATION, *_LOSS_UNITS, *_BESIDE_UNITS}
    return of_one_text or words <= known or (is_validation(last) and {*words_of(last)} <= known)


def is_training(name: str) -> bool:
    """Whether a loss's name says that it is of the data trained on."""
    words = set(words_of(name))
    return bool(words & set(_TRAINING)) and not words & set(_VALIDATION)


def rises(name: str) -> bool:
    """Whether a name is that of a metric that rises as models improve, such as an accuracy."""
    words = set(words_of(name))
    if words & _ONLY_OF_LOSSES or {"bits", "per"} <= words:
        return False  # arc_easy_bpb is the loss of the answers
    pairs = ({"exact", "match"}, {"pass", "rate"}, {"success", "rate"}, {"win", "rate"})
    return bool(words & set(_RISING)) or any(pair <= words for pair in pairs)


def of_hundred(name: str) -> bool:
    """Whether a name is that of a metric that goes up to 100 by custom, as sacrebleu's do."""
    return bool(set(words_of(name)) & set(_OF_HUNDRED))


def per_byte(name: str) -> bool:
    """Whether a name says bits a byte or character, which no unit turns into nats per token."""
    words = set(words_of(name))
    of_text = "per" in words and words & {"byte", "char", "character"}
    return bool(words & {"bpb", "bpc"} or of_text)


def _loss_name(words: Sequence[str]) -> Name:
    if "log" in words[:-1] and ({"ppl", "perplexity"} & set(words)):
        return Name("_".join(words), None)  # ln perplexity is the loss in nats
    if per_byte("_".join(words)):
        return Name("_".join(words), "bits_per_byte")
    if words and words[0] in ("log10", "log2", "ln") and len(words) > 1:
        return Name("_".join(words[1:]), words[0])
    unit = next((_LOSS_UNITS[word] for word in reversed(words) if word in _LOSS_UNITS), None)
    rest = [word for word in words if word not in (*_LOSS_UNITS, "in", "per", "token")]
    return Name("_".join(rest or words), unit)


def _flops_name(words: Sequence[str]) -> Name:
    """FLOPs whose unit is a word (`compute_1e18`) or a prefix (`train_exaflops`, `PF-days`)."""
    if {"per", "sec", "second", "mfu", "gpu", "device", "utilization", "utilisation"} & set(words):
        return Name("_".join(words), None)
    days = re.search(r"(?:^|_)(pf|pflops?|petaflops?)(_s|_sec)?_?days?$", "_".join(words))
    if days:
        return Name("_".join(words)[: days.start()] or "flops", "PFdays")
    rest, unit = list(words), None
    number = next((word for word in rest if re.fullmatch(r"1?e\d+", word)), None)
    if number and len(rest) > 1:
        rest.remove(number)
        unit = f"1{number}" if number.startswith("e") else number
    for place, word in enumerate(rest):
        match = re.fullmatch(
            r"(kilo|mega|giga|tera|peta|exa|zetta|yotta|[mgtpezy])(f|fl|flop|flops|flos)", word
        )
        if match is None:
            continue
        letter = match[1][0]
        if len(rest) == 1 and letter in "mgtp":
            break  # a column that is only called tflops is a speed
        unit = f"{letter.upper()}F"
        rest[place] = "flops"
        break
    if unit and rest[-1] == "flops" and "_".join(rest[:-1]) in PLAIN["flops"]:
        rest = rest[:-1]
    if len("_".join(rest[:-1])) > 1 and unit is None and rest[-1] in tuple("mgtpezy"):
        unit, rest = rest[-1].upper() + "F", rest[:-1]
    return Name("_".join(word for word in rest if word not in ("in", "of")), unit)


def _count_name(words: Sequence[str], name: str) -> Name:
    """Counts whose unit is the last word (`params_M`), the first in full, or grown together."""
    rest = [word for word in words if word not in ("in", "of", "the")]
    grown = re.fullmatch(r"([kmbgt])(params|parameters|tokens)", "_".join(rest))
    if grown:
        return Name(grown[2], {"g": "B"}.get(grown[1], grown[1].upper()))
    bracketed = words_of("".join(re.findall(r"[(\[{]([^)\]}]*)[)\]}]", name)).replace(",", " "))
    for place in reversed(range(len(rest))):
        unit = count_unit(rest[place])
        inside = rest[place] in bracketed
        spelt = len(rest[place]) > 2
        if unit is None or len(rest) == 1:
            continue
        if not (inside or spelt) and len("".join(rest[:place])) == 1:
            continue  # d_k and n_t are settings of a model
        last = place == len(rest) - 1
        if inside or last or (place == 0 and spelt):
            return Name("_".join(rest[:place] + rest[place + 1 :]), unit)
    return Name("_".join(rest), None)


def count_unit(word: str) -> str | None:
    """The unit as in `--units` that a word spells: B of `Mrd`, 1e9 of `e9`."""
    if re.fullmatch(r"1?e\d+", word):
        return f"1{word}" if word.startswith("e") else word
    return next((unit for unit, spellings in _COUNT_UNITS.items() if word in spellings), None)


PLAIN = {
    quantity: tuple(map(plain, spelled)) for quantity, spelled in {**ALIASES, **OTHERS}.items()
}
"""The aliases of every quantity, as `plain` spells them."""
