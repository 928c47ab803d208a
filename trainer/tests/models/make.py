"""Makes the models that `tests/architectures.rs` compares with transformers.

    python make.py          # writes one folder per model: needs torch and transformers
    python make.py check DIR  # compares folders that Rust exported to DIR with the originals

Each model is small, random and stored in bf16. `expected.json` holds what transformers computes from
it in f32: the logits after some positions, the mean loss, and a greedy continuation.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
TOKENS = list(b"It was the best of times")
POSITIONS = [0, 4, 11, 23]
GREEDY = 12

COMMON = dict(
    vocab_size=256, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, intermediate_size=24, max_position_embeddings=64,
    rms_norm_eps=1e-5, bos_token_id=None, eos_token_id=None, pad_token_id=None,
)


def rope(kind, theta=10_000.0, **keys):
    return {"rope_parameters": dict(rope_type=kind, rope_theta=theta, **keys)}


MODELS = {
    "llama": dict(model_type="llama", tie_word_embeddings=True),
    "llama-biases": dict(model_type="llama", attention_bias=True, mlp_bias=True),
    "llama-llama3": dict(model_type="llama", **rope(
        "llama3", 50_000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)),
    "llama-linear": dict(model_type="llama", **rope("linear", factor=2.5)),
    "llama-yarn": dict(model_type="llama", **rope(
        "yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=3.0, beta_slow=0.5)),
    "llama-yarn-mscale": dict(model_type="llama", **rope(
        "yarn", factor=4.0, original_max_position_embeddings=16, mscale=0.7, mscale_all_dim=1.2,
        truncate=False)),
    "mistral": dict(model_type="mistral", sliding_window=7),
    "qwen2": dict(model_type="qwen2", tie_word_embeddings=True, head_dim=4),
    "qwen2-windowed": dict(model_type="qwen2", use_sliding_window=True, sliding_window=5,
                           max_window_layers=1, head_dim=4),
    "qwen3": dict(model_type="qwen3", tie_word_embeddings=True, **rope("default", 1e6)),
    "smollm3": dict(model_type="smollm3", num_hidden_layers=4, head_dim=4, no_rope_layer_interval=2),
    "gemma": dict(model_type="gemma"),
    "gemma2": dict(model_type="gemma2", sliding_window=6, query_pre_attn_scalar=12,
                   attn_logit_softcapping=3.0, final_logit_softcapping=4.0, num_hidden_layers=3),
    "gemma3": dict(model_type="gemma3_text", sliding_window=6, query_pre_attn_scalar=12,
                   num_hidden_layers=3, layer_types=["sliding_attention", "sliding_attention",
                                                     "full_attention"],
                   rope_parameters={
                       "full_attention": dict(rope_type="linear", rope_theta=1e6, factor=8.0),
                       "sliding_attention": dict(rope_type="default", rope_theta=1e4)}),
    "olmo2": dict(model_type="olmo2", head_dim=4),
    "olmo3": dict(model_type="olmo3", head_dim=4, sliding_window=6, num_hidden_layers=3,
                  layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                  rope_parameters={
                      "full_attention": dict(rope_type="yarn", rope_theta=1e4, factor=4.0,
                                             original_max_position_embeddings=16),
                      "sliding_attention": dict(rope_type="default", rope_theta=1e4)}),
    "phi3": dict(model_type="phi3", sliding_window=7, head_dim=4),
    "phi3-partial": dict(model_type="phi3", partial_rotary_factor=0.5),
}


def random_weights(model):
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            values = torch.randn(tensor.shape)
            if "norm" in name:
                tensor.copy_(tensor + 0.2 * values)
            elif "embed" in name or "lm_head" in name:
                tensor.copy_(0.4 * values)
            else:
                tensor.copy_(0.3 * values)
    return model.to(torch.bfloat16)


def load(folder):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def expected(model):
    tokens = torch.tensor([TOKENS])
    logits = model(tokens, use_cache=False).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:])
    greedy = list(TOKENS)
    for _ in range(GREEDY):
        greedy.append(int(model(torch.tensor([greedy]), use_cache=False).logits[0, -1].argmax()))
    return dict(
        tokens=TOKENS, positions=POSITIONS, loss=float(loss), greedy=greedy[len(TOKENS):],
        logits=[[round(float(value), 6) for value in logits[position]] for position in POSITIONS],
    )


def make():
    for number, (name, keys) in enumerate(MODELS.items()):
        torch.manual_seed(number)
        keys = COMMON | keys
        model_type = keys.pop("model_type")
        if model_type in ("gemma2", "gemma3_text", "gemma"):
            keys["hidden_size"] = 16
        config = AutoConfig.for_model(model_type, **keys)
        model = random_weights(AutoModelForCausalLM.from_config(config))
        folder = HERE / name
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        result = expected(load(folder))
        (folder / "expected.json").write_text(json.dumps(result) + "\n")
        size = (folder / "model.safetensors").stat().st_size
        print(f"{name}: {size} bytes, loss {result['loss']:.3f}")


def check(folder):
    failed = False
    for name in MODELS:
        exported = Path(folder) / name
        found = expected(load(exported))
        wanted = json.loads((HERE / name / "expected.json").read_text())
        pairs = zip(sum(found["logits"], []), sum(wanted["logits"], []))
        worst = max(abs(left - right) for left, right in pairs)
        before = json.loads((HERE / name / "config.json").read_text())
        after = json.loads((exported / "config.json").read_text())
        same = before["architectures"] == after["architectures"]
        good = worst < 1e-4 and found["greedy"] == wanted["greedy"] and same
        failed |= not good
        print(f"{name}: {'same' if good else 'DIFFERS'}, off by {worst:.1e}, {after['architectures']}")
    sys.exit(failed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    check(sys.argv[2]) if sys.argv[1:2] == ["check"] else make()
