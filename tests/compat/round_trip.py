"""Takes a small model of each architecture through `weal`, and compares what other programs read.

    pip install torch transformers tokenizers safetensors xllamacpp
    WEAL=target/release/weal python tests/compat/round_trip.py DIR [NAME ...]

transformers makes a random model; `weal import`, `weal run` and `weal export` train it and write
it as safetensors and GGUF into DIR/NAME. The text that transformers generates greedily from the
exported folder must be that of `weal generate`, and of llama.cpp from the GGUF file. llama.cpp must
also give the likeliest tokens the same probability at each place: texts of small models hide
mistakes that change scores only a little. The exit status is 1 if anything differs, or if an export
to GGUF is refused that should not be, or the other way round.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("TQDM_DISABLE", "1")
from harness import Writer
from llama_cpp import LlamaCpp, Transformers, by_weal

ROUNDS = 4
# Tokens that are generated.
COUNT = 24
# llama.cpp rounds weights, activations, keys and values to 16 bits. Log-probabilities differ by
# that, and a text may go on otherwise where two tokens are as likely as each other but for that.
CLOSE = 0.05
# Longer than the windows below.
PROMPT = "The lantern warms the kettle under the tree, and the river hides the violin by the sea"

COMMON = dict(
    vocab_size=512, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, intermediate_size=96, max_position_embeddings=128,
    rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=1, pad_token_id=None,
)
WINDOW = 8


def rope(kind, theta=10_000.0, **keys):
    return {"rope_parameters": dict(rope_type=kind, rope_theta=theta, **keys)}


LLAMA3 = rope("llama3", 50_000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
LINEAR = rope("linear", factor=2.5)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=32)


def layers(count, full_every):
    kinds = ["sliding_attention", "full_attention"]
    return dict(num_hidden_layers=count, sliding_window=WINDOW,
                layer_types=[kinds[layer % full_every == full_every - 1] for layer in range(count)])


def two_ropes(full, window_theta=1e4):
    windowed = dict(rope_type="default", rope_theta=window_theta)
    return {"rope_parameters": dict(full_attention=full, sliding_attention=windowed)}


# The models. `refused` stands in the error of an export to GGUF; docs/models.md says why.
# `metaspace` takes a tokeniser like Llama 2's, Mistral's and Gemma's instead of one like GPT-2's.
MODELS = {
    "llama": dict(model_type="llama", tie_word_embeddings=True),
    "llama-metaspace": dict(model_type="llama", metaspace=True),
    "llama-biases": dict(model_type="llama", attention_bias=True, mlp_bias=True),
    "llama-linear": dict(model_type="llama", **LINEAR),
    "llama-llama3": dict(model_type="llama", **LLAMA3),
    "llama-yarn": dict(model_type="llama", **YARN),
    "mistral": dict(model_type="mistral", metaspace=True, sliding_window=None),
    "mistral-windowed": dict(model_type="mistral", metaspace=True, sliding_window=WINDOW,
                             refused="layers like these that see only 8 tokens"),
    "qwen2": dict(model_type="qwen2", tie_word_embeddings=True),
    "qwen2-yarn": dict(model_type="qwen2", **YARN),
    "qwen2-llama3": dict(model_type="qwen2", **LLAMA3, refused="rotary scaling of Llama 3.1"),
    "qwen2-windowed": dict(model_type="qwen2", use_sliding_window=True, sliding_window=WINDOW,
                           max_window_layers=1, refused="layers like these that see only 8 tokens"),
    "qwen3": dict(model_type="qwen3", tie_word_embeddings=True, **rope("default", 1e6)),
    "qwen3-linear": dict(model_type="qwen3", **LINEAR),
    "qwen3-yarn": dict(model_type="qwen3", **YARN),
    "smollm3": dict(model_type="smollm3", num_hidden_layers=4, no_rope_layer_interval=4),
    "smollm3-yarn": dict(model_type="smollm3", num_hidden_layers=4, no_rope_layer_interval=4, **YARN),
    "gemma": dict(model_type="gemma", metaspace=True),
    "gemma2": dict(model_type="gemma2", metaspace=True, query_pre_attn_scalar=16,
                   attn_logit_softcapping=5.0, final_logit_softcapping=8.0, **layers(3, 2)),
    "gemma3": dict(model_type="gemma3_text", metaspace=True, query_pre_attn_scalar=16,
                   **layers(7, 6), **two_ropes(dict(rope_type="default", rope_theta=1e6))),
    "gemma3-linear": dict(model_type="gemma3_text", metaspace=True, query_pre_attn_scalar=16,
                          **layers(7, 6),
                          **two_ropes(dict(rope_type="linear", rope_theta=1e6, factor=8.0))),
    "olmo2": dict(model_type="olmo2"),
    "olmo2-yarn": dict(model_type="olmo2", **YARN),
    "olmo3": dict(model_type="olmo3", **layers(5, 4),
                  **two_ropes(dict(rope_type="default", rope_theta=1e4))),
    "olmo3-yarn": dict(model_type="olmo3", **layers(5, 4), **two_ropes(
        dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=32))),
    "phi3": dict(model_type="phi3", metaspace=True, sliding_window=None),
    "phi3-partial": dict(model_type="phi3", partial_rotary_factor=0.5, sliding_window=None),
    "phi3-windowed": dict(model_type="phi3", sliding_window=WINDOW,
                          refused="layers like these that see only 8 tokens"),
}


def make_tokeniser(folder, metaspace, lines):
    """A tokeniser that cuts words as GPT-2's, or as Llama 2's, which begins each text with bos."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>"]
    if metaspace:
        tokeniser = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokeniser.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokeniser.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        special += ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        # Without this, merges would join words.
        spaced = [word for line in lines for word in line.split(" ")]
        lines, alphabet = spaced, []
    else:
        tokeniser = Tokenizer(models.BPE())
        tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokeniser.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=COMMON["vocab_size"], special_tokens=special, initial_alphabet=alphabet,
        show_progress=False)
    tokeniser.train_from_iterator(lines, trainer)
    text = json.loads(tokeniser.to_str())
    # The byte tokens are common ones: a text may hold them.
    text["added_tokens"] = [token for token in text["added_tokens"] if token["id"] < 3]
    tokeniser = Tokenizer.from_str(json.dumps(text))
    if metaspace:
        tokeniser.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokeniser, bos_token="<s>", eos_token="</s>",
        **({"unk_token": "<unk>"} if metaspace else {})).save_pretrained(folder)
    return tokeniser.get_vocab_size()


def make_model(folder, keys, number):
    """A random model whose attention and norms matter as much as a trained one's."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(number)
    keys = COMMON | keys
    config = AutoConfig.for_model(keys.pop("model_type"), **keys)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            values = torch.randn(tensor.shape)
            if "norm" in name:
                tensor.add_(0.2 * values)
            elif "embed" in name or "lm_head" in name:
                tensor.copy_(0.3 * values)
            else:
                tensor.copy_(0.15 * values)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def weal(*words, check=True):
    command = [os.environ["WEAL"], *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    return done


def train(node):
    """Runs a node until it has decided some rounds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        page = f"127.0.0.1:{free.getsockname()[1]}"
    with open(node / "log", "w") as log:
        run = subprocess.Popen(
            [os.environ["WEAL"], "run", "--dir", node, "--device", "cpu", "--threads", "1", "--no-mdns",
             "--port", "0", "--page", page, "--rounds", str(ROUNDS)],
            stdout=log, stderr=log)
    decided = 0
    while decided < ROUNDS:
        if run.poll() is not None:
            sys.exit(f"weal run ended:\n{(node / 'log').read_text()[-2000:]}")
        status = weal("status", "--json", "--page", page, check=False)
        history = json.loads(status.stdout)["history"] if status.returncode == 0 else []
        decided = len(history)
        time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    run.wait()
    return [entry["contributions"] for entry in history]


def greedy(model, prompt, ends):
    """The tokens that transformers finds best, and the logarithms of all probabilities there."""
    import torch

    tokens, places = list(prompt), []
    for _ in range(COUNT):
        scores = torch.log_softmax(torch.tensor(model.scores(tokens)), 0)
        places.append(scores)
        tokens.append(int(scores.argmax()))
        if tokens[-1] in ends:
            break
    return tokens[len(prompt):], places


def decoded(tokeniser, ids):
    """The text of tokens. Bytes that are no letter become marks one by one; `tokenizers` turns
    every byte of a run into a mark if one of them does not fit."""
    names = [tokeniser.id_to_token(id) for id in ids]
    is_byte = lambda name: re.fullmatch("<0x[0-9A-F]{2}>", name)
    if not any(map(is_byte, names)):
        return tokeniser.decode(ids)
    pieces = [bytes([int(name[3:5], 16)]) if is_byte(name) else name.replace("▁", " ").encode()
              for name in names if name not in ("<s>", "</s>")]
    return b"".join(pieces).removeprefix(b" ").decode(errors="replace")


def is_tie(theirs, found, places):
    """Whether two texts part where their tokens are as likely as each other."""
    for token, other, scores in zip(theirs, found, places):
        if token != other:
            return float(scores[token] - scores[other]) < CLOSE
    return False


def likeliest(model, tokens):
    """The logarithms of llama.cpp's largest probabilities after some tokens."""
    answer = model.ask(
        "/completion", prompt=tokens, n_predict=1, temperature=0.0, top_k=1, n_probs=10,
        cache_prompt=False)
    # A token that is part of a letter gives no text yet, and has no entry.
    places = answer.get("completion_probabilities", [])
    return {entry["id"]: entry["logprob"] for place in places for entry in place["top_logprobs"]}


def furthest(model, prompt, theirs, places):
    """The largest difference of log-probabilities after each part of a text."""
    worst = 0.0
    for count, scores in enumerate(places):
        top = likeliest(model, prompt + theirs[:count])
        worst = max([worst, *(abs(float(scores[id]) - value) for id, value in top.items())])
    return worst


def round_trip(name, number, folder):
    """The row of a model, and whether everything agrees."""
    import tokenizers

    keys = dict(MODELS[name])
    metaspace, refused = keys.pop("metaspace", False), keys.pop("refused", None)
    original, node, exported = folder / "original", folder / "node", folder / "exported"
    shutil.rmtree(folder, ignore_errors=True)
    lines = [Writer(7 + seed).text(20) for seed in range(100)]
    keys["vocab_size"] = make_tokeniser(original, metaspace, lines)
    make_model(original, keys, number)
    (folder / "text.txt").write_text("\n".join(lines))
    weal("import", original, "--dir", node, "--data", folder / "text.txt", "--context", 64)
    # An import's careful rate would hardly change the text in so few rounds.
    run = (node / "run.toml").read_text()
    rate = re.sub(r"(?m)^learning_rate = .*", "learning_rate = 0.003", run)
    (node / "run.toml").write_text(rate)
    applied = train(node)
    weal("export", exported, "--dir", node)
    gguf = weal("export", folder / "exported.gguf", "--dir", node, check=False)

    tokeniser = tokenizers.Tokenizer.from_file(str(exported / "tokenizer.json"))
    model = Transformers(exported)
    prompt = tokeniser.encode(PROMPT).ids
    ends = {COMMON["eos_token_id"]}
    theirs, places = greedy(model, prompt, ends)
    text = decoded(tokeniser, prompt + theirs)
    _, before = greedy(Transformers(original), prompt, ends)
    learnt = float((before[0] - places[0]).abs().max())
    good = sum(applied) == ROUNDS and learnt > 0.1
    row = [name, f"{sum(applied)} of {ROUNDS}", f"{learnt:.2f}"]
    same = by_weal(exported, PROMPT, COUNT).strip() == text.strip()
    good &= same
    row.append("same" if same else "DIFFERS")
    if gguf.returncode:
        reason = gguf.stderr.strip().splitlines()
        good &= refused is not None and refused in gguf.stderr
        return [*row, "refused: " + " ".join(reason)], good
    reader = LlamaCpp(folder / "exported.gguf")
    cut = reader.tokens(PROMPT, True)
    if cut != prompt:
        return [*row, f"OTHER TOKENS {cut} for {prompt}"], False
    found = reader.text(prompt, COUNT)
    worst = furthest(reader, prompt, theirs, places)
    if decoded(tokeniser, prompt + found) == text:
        verdict = "same"
    else:
        tie = is_tie(theirs, found, places)
        verdict = "same but for a tie" if tie else "DIFFERS"
    good &= verdict != "DIFFERS" and worst < CLOSE and refused is None
    return [*row, f"{verdict}, log-probabilities within {worst:.4f}"], good


def main():
    os.environ.setdefault("WEAL", "weal")
    root, names = Path(sys.argv[1]).absolute(), sys.argv[2:] or list(MODELS)
    failed = []
    print("| model | contributions | learnt, nats | weal generate | llama.cpp |\n|---|---|---|---|---|")
    for name in names:
        row, good = round_trip(name, list(MODELS).index(name), root / name)
        print("|", " | ".join(row), "|" if good else "| FAILED", flush=True)
        failed += [] if good else [name]
    print(f"failed: {', '.join(failed)}" if failed else "everything agrees")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
