#!/usr/bin/env python3
"""Compares `weal eval` with lm-evaluation-harness, choice by choice.

    python3 tests/compat/harness.py model DIR       # a small model with a BPE tokeniser
    python3 tests/compat/harness.py tasks DIR       # data of our own for each task
    python3 tests/compat/harness.py compare MODEL DIR --weal target/debug/weal
    python3 tests/compat/harness.py requests DIR FILE --models MODEL…   # for the Rust tests

Needs lm_eval 0.4.13, transformers, torch and tokenizers. Nothing is downloaded: each task is the
harness' own file with its data set replaced by a local one (`dataset_path: json`).
"""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DISABLE_MULTIPROC", "1")

SUBJECTS = ["abstract_algebra", "anatomy", "us_foreign_policy", "world_religions"]

# What each task is called here and there, and the parts that its data has.
TASKS = {
    "arc_easy": ("arc/arc_easy.yaml", "test", "train"),
    "arc_challenge": ("arc/arc_challenge.yaml", "test", "train"),
    "hellaswag": ("hellaswag/hellaswag.yaml", "validation", "train"),
    "piqa": ("piqa/piqa.yaml", "validation", "train"),
    "winogrande": ("winogrande/default.yaml", "validation", "train"),
    "openbookqa": ("openbookqa/openbookqa.yaml", "test", "train"),
    "boolq": ("super_glue/boolq/default.yaml", "validation", "train"),
    "lambada_openai": ("lambada/lambada_openai.yaml", "test", None),
    "lambada_standard": ("lambada/lambada_standard.yaml", "test", "validation"),
    **{f"mmlu_{s}": (f"mmlu/default/mmlu_{s}.yaml", "test", "dev") for s in SUBJECTS},
}

# ---------------------------------------------------------------- data

NOUNS = "river stone lantern kettle orchard sparrow engine violin harbour meadow copper blanket".split()
VERBS = "carries breaks warms follows paints lifts hides answers".split()
PLACES = ["in the café", "by the sea", "at 3 °C", "under the 木 tree", "near Kraków", "on the roof"]
ODD = [
    "  two spaces before",
    "a line\nand another",
    "naïve ﬁnesse — “quoted”",
    "日本語の文",
    "tab\tinside",
    "trailing space ",
    "🙂 emoji",
    "no\u00a0break",
    "[brackets] stay",
    "ÀÉÎ ÕÜ",
]


class Writer:
    """Sentences that nobody wrote before, the same from the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def one(self, of):
        return self.random.choice(of)

    def clause(self):
        return f"the {self.one(NOUNS)} {self.one(VERBS)} the {self.one(NOUNS)} {self.one(PLACES)}"

    def sentence(self):
        text = self.clause()
        if self.random.random() < 0.2:
            text += ", " + self.one(ODD)
        return text[0].upper() + text[1:] + "."

    def text(self, sentences):
        return " ".join(self.sentence() for _ in range(sentences))

    def answer(self):
        roll = self.random.random()
        if roll < 0.25:
            return self.one(NOUNS)
        if roll < 0.4:
            return self.one(ODD)
        return f"{self.one(NOUNS)} {self.one(PLACES)}"

    def number(self, below):
        return self.random.randrange(below)


def labelled(w):
    count = w.one([3, 4, 4, 5])
    labels = w.one([list("ABCDE"), list("12345")])[:count]
    texts = [w.answer() for _ in labels]
    return {"text": texts, "label": labels}, w.one(labels)


def record(task, w, number):
    if task.startswith("arc"):
        choices, key = labelled(w)
        question = w.text(1 + w.number(3)) + " Which?"
        return {"id": str(number), "question": question, "choices": choices, "answerKey": key}
    if task == "openbookqa":
        choices, key = labelled(w)
        stem = w.clause() + w.one(["", " ", "?"])
        return {"id": str(number), "question_stem": stem, "choices": choices, "answerKey": w.one(["", " "]) + key}
    if task == "hellaswag":
        markup = lambda text: w.one([text, text, f"[header] {text}", f"{text} [title] {w.sentence()}", f"[step] {text} [substeps] {w.clause()}", f"a  b [open {text}", f"[line\nend] {text}"])
        return {
            "ind": number,
            "activity_label": w.one(["Cooking", "Playing ΑΣ", "Home and Garden"]),
            "ctx_a": markup(w.text(1 + w.number(3))),
            "ctx_b": w.one([w.clause(), "", "ÉCOLE " + w.clause(), "ßtraße IS", "he"]),
            "ctx": "unused",
            "endings": [markup(w.clause()) for _ in range(4)],
            "label": str(w.number(4)),
        }
    if task == "piqa":
        return {"goal": w.text(1 + w.number(2)), "sol1": w.answer(), "sol2": w.text(1), "label": w.number(2)}
    if task == "winogrande":
        before, after = w.clause(), w.one([w.clause() + ".", " " + w.clause() + " ", "_ again."])
        sentence = f"{before[0].upper()}{before[1:]} because the _ {after}"
        return {"sentence": sentence, "option1": w.one(NOUNS), "option2": w.one(NOUNS + ["старый дом"]), "answer": w.one("12")}
    if task == "boolq":
        return {"question": w.clause(), "passage": w.text(2 + w.number(30)), "idx": number, "label": w.number(2)}
    if task.startswith("lambada"):
        text = w.text(1 + w.number(5)) + w.one([" ", "  ", "\n "]) + w.clause()
        # Half of the texts end as a trained model would end them.
        return {"text": text + w.one(["", " " + w.one(NOUNS + ["ﬁn", "“the", "word."])])}
    if task.startswith("mmlu"):
        question = w.one(["", " ", "\n"]) + w.text(1 + w.number(3)) + w.one(["", " ", "\n"])
        return {"question": question, "subject": task[5:], "choices": [w.answer() for _ in range(4)], "answer": w.number(4)}
    raise SystemExit(f"no data for {task}")


def write_lines(path, records):
    with open(path, "w", encoding="utf-8") as out:
        for line in records:
            out.write(json.dumps(line, ensure_ascii=number_of(line)) + "\n")


def number_of(line):
    """Every other record escapes what is not ASCII, as many tools do."""
    return len(json.dumps(line)) % 2 == 0


def tasks_dir():
    import lm_eval

    return Path(lm_eval.__file__).parent / "tasks"


def make_tasks(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for place, (task, (yaml, asked, shots)) in enumerate(TASKS.items()):
        w = Writer(1000 + place)
        parts = {asked: count, **({shots: 12} if shots else {})}
        for part, size in parts.items():
            records = [record(task, w, number) for number in range(size)]
            if part == shots and task == "hellaswag":
                # A question that is its own example, twice.
                records[3:5] = [asked_records[0], asked_records[0]]
            asked_records = records
            write_lines(folder / f"{task}.{part}.jsonl", records)
        files = {part: str(folder / f"{task}.{part}.jsonl") for part in parts}
        if task.startswith("mmlu"):
            files["validation"] = files["test"]
        for part in ("train", "validation", "test"):
            if f"{part}_split: {part}" in (text_of(yaml)):
                files.setdefault(part, files[asked])
        (folder / f"local_{task}.yaml").write_text(
            f"include: {tasks_dir() / yaml}\n"
            f"task: local_{task}\n"
            "tag: []\n"
            "dataset_path: json\n"
            "dataset_name: null\n"
            f"dataset_kwargs:\n  data_files: {json.dumps(files)}\n"
        )
    for name, part in (("mmlu", "test"), ("mmlu", "dev")):
        lines = [line for s in SUBJECTS for line in open(folder / f"mmlu_{s}.{part}.jsonl", encoding="utf-8")]
        (folder / f"{name}.{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    members = "".join(f"  - local_mmlu_{s}\n" for s in SUBJECTS)
    (folder / "local_mmlu.yaml").write_text(
        f"group: local_mmlu\ntask:\n{members}aggregate_metric_list:\n  - metric: acc\n    weight_by_size: True\n"
    )


def text_of(yaml):
    """A task's file with those that it includes."""
    path = tasks_dir() / yaml
    text = path.read_text()
    for line in text.replace('"', "").splitlines():
        if line.startswith("include:"):
            text += (path.parent / line.split(":")[1].strip()).read_text()
    return text


# ---------------------------------------------------------------- model


def make_model(folder, kind, bos, text, seed, tiny, steps):
    """A small random model, and a BPE tokeniser trained on `text`, which puts BOS in front or not."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300 if tiny else 600,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    lines = text or [Writer(7).text(20) for _ in range(100)]
    tokeniser.train_from_iterator(lines, trainer)
    if bos:
        tokeniser.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", 0)]
        )
    names = {"bos_token": "<|begin|>"} if bos else {}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokeniser, eos_token="<|end|>", **names)
    sizes = dict(
        vocab_size=640,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        initializer_range=0.02 if steps else 0.2,
        bos_token_id=0 if bos else None,
        eos_token_id=1,
    )
    if tiny:
        sizes.update(vocab_size=300, hidden_size=16, intermediate_size=16, num_attention_heads=2)
        sizes.update(num_key_value_heads=1, head_dim=8, max_position_embeddings=128)
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=False))
    train(model, torch.tensor(fast("\n".join(lines))["input_ids"]), steps)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


def train(model, tokens, steps):
    """A few steps, so that the model prefers some words to others."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(steps):
        starts = torch.randint(len(tokens) - 65, (16,))
        batch = torch.stack([tokens[start : start + 65] for start in starts])
        model(input_ids=batch, labels=batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()


# ---------------------------------------------------------------- comparison


def harness(model, folder, shots, tasks, batch):
    """The harness' results, and its samples, `{task: [(arguments, scores, values)]}`."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "float32", "add_bos_token": None},
        tasks=[f"local_{task}" for task in tasks],
        num_fewshot=shots,
        batch_size=batch,
        device="cpu",
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        log_samples=True,
        bootstrap_iters=1000,
    )
    return found


def by_weal(weal, model, folder, shots, task, part, shots_part, scratch):
    log = scratch / f"weal.{task}.{shots}.jsonl"
    command = [weal, "eval", "--model", model, "--device", "cpu", "--json", "--task", task]
    command += ["--shots", shots, "--log-samples", log]
    if shots and shots_part:
        command += ["--shots-from", folder / f"{task}.{shots_part}.jsonl"]
    command += [folder / f"{task}.{part}.jsonl"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return results, [json.loads(line) for line in open(log, encoding="utf-8")]


def close(a, b, tolerance=1e-4):
    return abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))


def compare_task(task, shots, theirs, ours, results):
    """Differences of one task, and the number of choices compared."""
    samples, lines = sorted(theirs["samples"][f"local_{task}"], key=lambda s: s["doc_id"]), ours
    wrong, choices, worst = [], 0, 0.0
    if len(samples) != len(lines):
        return [f"{len(lines)} questions for {len(samples)}"], 0, 0.0
    for sample, line in zip(samples, lines):
        arguments = [list(argument) for argument in sample["arguments"]]
        # Logged samples name their arguments in some versions.
        if isinstance(sample["arguments"], dict):
            arguments = [list(a.values()) for a in sample["arguments"].values()]
        if arguments != line["arguments"]:
            wrong.append(f"{sample['doc_id']}: asked {line['arguments']!r} for {arguments!r}")
            continue
        responses = [response[0] for response in sample["resps"]]
        for (their, greedy), (our, our_greedy) in zip(responses, line["resps"]):
            choices += 1
            worst = max(worst, abs(float(their) - our))
            if not close(float(their), our) or str(greedy) != str(our_greedy):
                wrong.append(f"{sample['doc_id']}: {our} {our_greedy} for {their} {greedy}")
        for metric in ("acc", "acc_norm", "perplexity"):
            if metric in sample and not close(float(sample[metric]), line[metric]):
                wrong.append(f"{sample['doc_id']}: {metric} {line[metric]} for {sample[metric]}")
    totals = theirs["results"][f"local_{task}"]
    for metric in ("acc", "acc_norm", "perplexity"):
        if f"{metric},none" not in totals:
            continue
        # The error of a perplexity is estimated in another way; see docs/models.md.
        keys = [metric] if metric == "perplexity" else [metric, f"{metric}_stderr"]
        for key in keys:
            their, our = totals[f"{key},none"], results[0][key]
            if not close(float(their), our):
                wrong.append(f"{key} {our} for {their}")
    version = theirs["versions"].get(f"local_{task}")
    if float(version) != float(results[0]["task_version"]):
        wrong.append(f"version {results[0]['task_version']} for {version}")
    return wrong, choices, worst


def compare(options):
    folder, scratch = options.folder, options.folder
    failures = total = 0
    for shots in options.shots:
        theirs = harness(options.model, folder, shots, TASKS, options.batch)
        for task, (_, part, shots_part) in TASKS.items():
            results, lines = by_weal(options.weal, options.model, folder, shots, task, part, shots_part, scratch)
            wrong, choices, worst = compare_task(task, shots, theirs, lines, results)
            failures, total = failures + len(wrong), total + choices
            metrics = {k: round(v, 4) for k, v in results[0].items() if isinstance(v, float)}
            print(f"{task} {shots} shots: {choices} choices, {len(wrong)} differences, largest {worst:.1e}, {metrics}")
            for line in wrong[:3]:
                print("   ", line[:2000])
        groups = harness(options.model, folder, shots, ["mmlu"], options.batch)
        results, _ = by_weal(options.weal, options.model, folder, shots, "mmlu", "test", "dev", scratch)
        their, our = groups["results"]["local_mmlu"], next(r for r in results if r.get("group") == "mmlu")
        for key in ("acc", "acc_stderr"):
            if not close(float(their[f"{key},none"]), our[key], 1e-9):
                failures += 1
                print(f"    mmlu {key} {our[key]} for {their[f'{key},none']}")
    print(f"{total} choices, {failures} differences")
    return 1 if failures else 0


def requests(options):
    """Writes records, and the harness' requests for them with their scores: for the Rust tests."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict

    manager = TaskManager(include_path=str(options.folder), include_defaults=False)
    models = [(path, HFLM(pretrained=str(path), dtype="float32", device="cpu", batch_size=1)) for path in options.models]
    out = []
    for task, (_, part, shots_part) in TASKS.items():
        for shots in (0, 3):
            name = f"local_{task}"
            built = get_task_dict([name], manager)
            while isinstance(built, dict):
                built = built[name]
            built.set_config("num_fewshot", shots)
            built.set_fewshot_seed(1234)
            built.build_all_requests(limit=options.limit)
            asked = [list(instance.args) for instance in built.instances]
            read = lambda part: [json.loads(line) for line in open(options.folder / f"{task}.{part}.jsonl", encoding="utf-8")]
            scores = {str(path.name): lm.loglikelihood(built.instances) for path, lm in models}
            out.append(
                {
                    "task": task,
                    "shots": shots,
                    "records": read(part)[: options.limit],
                    "examples": read(shots_part or part) if shots else [],
                    "requests": asked,
                    "scores": {name: [[round(a, 5), b] for a, b in found] for name, found in scores.items()},
                }
            )
    edges = [("", "the river"), ("", " the river"), ("white space moves  \u00a0", "on"), ("x", "y"), ("the café", " ")]
    instances = [Instance(request_type="loglikelihood", doc={}, arguments=edge, idx=0) for edge in edges]
    scores = {path.name: [[round(a, 5), b] for a, b in lm.loglikelihood(instances)] for path, lm in models}
    options.file.with_name("edges.json").write_text(json.dumps({"requests": edges, "scores": scores}, indent=1) + "\n")

    import pyarrow
    import pyarrow.parquet

    # As the Hub has it: a structure of lists.
    table = pyarrow.Table.from_pylist(out[0]["records"])
    pyarrow.parquet.write_table(table, options.file.with_name("arc_easy.parquet"))
    options.file.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('{"task"', '\n{"task"') + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("model")
    command.add_argument("folder", type=Path)
    command.add_argument("--kind", choices=["llama", "qwen3"], default="llama")
    command.add_argument("--bos", action="store_true")
    command.add_argument("--text", type=Path)
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--steps", type=int, default=0, help="of training, on the same text")
    command.add_argument("--tiny", action="store_true")
    command.set_defaults(
        run=lambda o: make_model(o.folder, o.kind, o.bos, o.text and o.text.read_text().splitlines(), o.seed, o.tiny, o.steps)
    )
    command = commands.add_parser("tasks")
    command.add_argument("folder", type=Path)
    command.add_argument("--count", type=int, default=40)
    command.set_defaults(run=lambda o: make_tasks(o.folder.absolute(), o.count))
    command = commands.add_parser("compare")
    command.add_argument("model", type=Path)
    command.add_argument("folder", type=Path)
    command.add_argument("--weal", default="weal")
    command.add_argument("--shots", type=int, nargs="+", default=[0, 3])
    command.add_argument("--batch", type=int, default=8)
    command.set_defaults(run=compare)
    command = commands.add_parser("requests")
    command.add_argument("folder", type=Path)
    command.add_argument("file", type=Path)
    command.add_argument("--models", type=Path, nargs="*", default=[])
    command.add_argument("--limit", type=int, default=3)
    command.set_defaults(run=requests)
    options = parser.parse_args()
    sys.exit(options.run(options))


if __name__ == "__main__":
    main()
