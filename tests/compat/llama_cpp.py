"""Reads a GGUF file in llama.cpp and compares it with the Hugging Face folder of the same model.

    pip install xllamacpp gguf tokenizers transformers torch
    weal export model --dir n && weal export model.gguf --dir n --type q4_k
    WEAL=target/release/weal python tests/compat/llama_cpp.py model model.gguf [more.gguf ...]

Compared are: the tokens of texts that are hard to cut, against the `tokenizers` package; the text
that is generated greedily, against the scores of transformers (for f16 and bf16 files, which hold
every weight closely, it must be the best but for ties), and against `weal generate --model` where
WEAL names the program; and the weights as the `gguf` package reads them, against those of the
folder. The exit status is 1 if anything differs.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy

TEXTS = [
    "Once upon a time there was a ship.",
    "  two  spaces,   three; tab\there\n\n\nlines \n  end  ",
    "It's we'll I'M THEY'VE 'Tis don’t",
    "1 12 123 1234 12345678 3.14159 1,000,000 x86_64 ½ ² Ⅷ ٣٤",
    "Grüße, Ångström café naïve Ελληνικά Привет мир ÉCOLE ǅ",
    "世界 こんにちは 한국어 ไทย हिन्दी עברית العربية",
    "fn main() { println!(\"{:?}\", x[0] != y); } // a_b_c == d->e\r\n",
    "😀👍🏽 👩‍👩‍👧 e\u0301 \u00a0nbsp\u3000wide \u200bzero",
    "CamelCaseHTTPServer ALLCAPS iPhone McDonald's O'Neill",
    "...!!! ??? --- *** ### <b>x</b> user@example.com https://example.org/?q=1&r=2",
    "a",
    " a",
    "\n",
]
# Tokens that are generated.
COUNT = 24
# Scores this close are a tie: llama.cpp rounds activations to the type of the weights.
TIE = 0.05


class LlamaCpp:
    """A server of llama.cpp in this process."""

    def __init__(self, path):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 128
        params.n_parallel = 1
        params.warmup = False
        params.verbosity = 0
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        params.port = 0
        self.server = xllamacpp.Server(params)
        self.address = self.server.listening_address

    def ask(self, path, **body):
        request = urllib.request.Request(
            f"{self.address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def tokens(self, text, special):
        return self.ask("/tokenize", content=text, add_special=special, parse_special=False)["tokens"]

    def text(self, prompt, count):
        answer = self.ask(
            "/completion", prompt=prompt, n_predict=count, temperature=0.0, top_k=1,
            cache_prompt=False, return_tokens=True,
        )
        return answer["tokens"]


def compare_tokens(folder, model):
    """Counts texts whose tokens differ, with and without what the tokeniser adds."""
    import tokenizers

    ours = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours.encode_special_tokens = True
    differences = 0
    for text in TEXTS:
        for special in [False, True]:
            expected = ours.encode(text, add_special_tokens=special).ids
            found = model.tokens(text, special)
            if expected != found:
                differences += 1
                print(f"  tokens differ for {text!r}, special {special}")
                print(f"    tokenizers {expected}\n    llama.cpp  {found}")
    return differences


class Transformers:
    """The same model in transformers."""

    def __init__(self, folder):
        import torch
        import transformers

        torch.set_num_threads(1)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def scores(self, tokens):
        import torch

        with torch.no_grad():
            return self.model(torch.tensor([tokens])).logits[0, -1].double().numpy()

    def margins(self, prompt, tokens):
        """How far the score of each token lies below the best of its place."""
        margins = []
        for token in tokens:
            scores = self.scores(prompt)
            margins.append(float(scores.max() - scores[token]))
            prompt = [*prompt, token]
        return margins


def by_weal(folder, prompt, count):
    """The text of `weal generate`, with the prompt; None if WEAL does not name the program."""
    if "WEAL" not in os.environ:
        return None
    command = [os.environ["WEAL"], "generate", prompt, "--model", str(folder), "--device", "cpu"]
    command += ["--tokens", str(count), "--temperature", "0"]
    out = subprocess.run(command, capture_output=True, check=True)
    return out.stdout.decode().rstrip("\n")


def weight_errors(folder, path):
    """The relative error of all matrices of the file, by kind; rows in llama.cpp's own order apart."""
    import gguf
    import safetensors.numpy

    theirs = {}
    for file in sorted(folder.glob("*.safetensors")):
        theirs.update(safetensors.numpy.load_file(file))
    sums = {}
    for tensor in gguf.GGUFReader(path).tensors:
        if len(tensor.shape) != 2:
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float64)
        # The sum of squares does not change when rows change their order, nor does the best match.
        matches = [v for v in theirs.values() if v.shape == values.shape]
        errors = [numpy.square(values - match).sum() for match in matches]
        if not errors:
            continue
        best = int(numpy.argmin(errors))
        norm = numpy.square(matches[best].astype(numpy.float64)).sum()
        if errors[best] > norm / 4:
            continue
        error, total = sums.get(tensor.tensor_type.name, (0.0, 0.0))
        sums[tensor.tensor_type.name] = (error + errors[best], total + norm)
    return {kind: (error / total) ** 0.5 for kind, (error, total) in sums.items()}


def main():
    folder, files = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    theirs = Transformers(folder)
    failed = False
    for path in files:
        print(path)
        model = LlamaCpp(path)
        failed |= compare_tokens(folder, model) > 0
        prompt = model.tokens(TEXTS[0], True)
        found = model.text(prompt, COUNT)
        margins = theirs.margins(prompt, found)
        same = sum(margin == 0.0 for margin in margins)
        kinds = weight_errors(folder, path)
        print(f"  {same} of {len(found)} generated tokens are the best to transformers, too; the worst")
        print(f"  is {max(margins):.4f} below the best")
        for kind, error in kinds.items():
            print(f"  {kind}: relative error of weights {error:.5f}")
        import tokenizers

        text = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).decode(prompt + found)
        weal = by_weal(folder, TEXTS[0], COUNT)
        exact = not any("Q" in kind for kind in kinds)
        failed |= not found or exact and max(margins) > TIE
        if exact and same == len(found) and weal is not None and weal.strip() != text.strip():
            print(f"    weal      {weal!r}\n    llama.cpp {text!r}")
            failed = True
    print("FAILED" if failed else "everything agrees")
    sys.exit(failed)


if __name__ == "__main__":
    main()
