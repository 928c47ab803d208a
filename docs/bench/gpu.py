"""Check and measure `weal` on the GPUs of this machine, and write one JSON file with a verdict for each step.

    cargo build --release --bin weal
    python3 docs/bench/gpu.py --weal target/release/weal --out gpu-results

With builds of other backends, name each: `--weal wgpu=… --weal cuda=…`. The steps are:

1. doctor: which devices there are;
2. check: training, losses and compressed bytes against the CPU (`weal bench check`), in f32 and, if the device
   has them, in f16 and bf16;
3. round: a run alone on the GPU for two rounds with evaluation, `kill -9`, a restart and another round; then the
   loss of its weights on the GPU against the CPU;
4. tune: the first step of each preset, with an empty kernel cache;
5. train: tokens per second of each preset, with memory as the driver reports it against the memory model;
6. home: a billion parameters in the memory of a card of 6 GB, at contexts of 1,024 and 2,048, as a node would
   plan it;
7. torch: the same training in PyTorch, if it is installed.

A step that fails or takes too long does not stop the others. It needs Python 3.9 and no packages.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Sequences per step, and the seconds that a step of this script may take.
BATCH = 8
PRECISIONS = ["f32", "f16", "bf16"]
SECONDS = {"doctor": 60, "check": 240, "round": 240, "tune": 400, "train": 200, "home": 200, "torch": 120}
# Measured memory may exceed the prediction by this factor.
MEMORY_FACTOR = 1.1


@dataclass
class Line:
    """What one step found."""

    step: str
    verdict: str = "fail"
    why: str = ""
    seconds: float = 0.0
    command: str = ""
    figures: dict = field(default_factory=dict)


class DriverMemory:
    """Samples the GPU memory in use as `nvidia-smi` reports it, in bytes, above what was in use before."""

    def __init__(self):
        self.before = self.now()
        self.peak = self.before
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        if self.before is not None:
            self.thread.start()

    @staticmethod
    def now():
        if not shutil.which("nvidia-smi"):
            return None
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        found = subprocess.run(command, capture_output=True, text=True)
        numbers = re.findall(r"\d+", found.stdout)
        return int(numbers[0]) << 20 if numbers else None

    def sample(self):
        while not self.done.wait(0.25):
            self.peak = max(self.peak, self.now() or 0)

    def stop(self):
        self.done.set()
        return None if self.before is None else self.peak - self.before


class Runner:
    """Runs commands with a time limit, and collects their lines."""

    def __init__(self, out, minutes):
        self.out = out
        self.end = time.monotonic() + 60 * minutes
        self.lines = []
        self.lock = threading.Lock()

    def left(self):
        return self.end - time.monotonic()

    def environment(self, cache=None):
        folder = self.out / (cache or "kernels")
        folder.mkdir(parents=True, exist_ok=True)
        return {**os.environ, "WEAL_CACHE_DIR": str(folder)}

    def run(self, step, command, environment=None):
        """Runs a command. Returns its exit code (None if it took too long), the last line of JSON it printed, and
        the seconds it took."""
        kind = step.split()[0]
        seconds = min(SECONDS[kind], self.left())
        name = re.sub(r"[^A-Za-z0-9.]+", "-", step)
        if seconds <= 1:
            return None, {}, 0.0
        log, printed = self.out / f"{name}.log", self.out / f"{name}.out"
        start = time.monotonic()
        with open(log, "wb") as errors, open(printed, "wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=output,
                stderr=errors,
                env=environment or self.environment(),
                start_new_session=True,
            )
            try:
                code = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
        return code, last_json(printed), time.monotonic() - start

    def add(self, line):
        with self.lock:
            self.lines.append(line)
            print(f"{line.verdict:8} {line.seconds:6.1f} s  {line.step:44} {line.why}", flush=True)
            (self.out / "results.json").write_text(json.dumps([vars(line) for line in self.lines], indent=1))

    def step(self, step, command, judge):
        """Runs a command and adds the line that `judge` makes of its JSON: a verdict, a reason, and figures."""
        line = Line(step=step, command=shlex.join(str(part) for part in command))
        memory = DriverMemory()
        code, found, line.seconds = self.run(step, command)
        used = memory.stop()
        if code is None:
            line.verdict, line.why = "timeout", f"after {line.seconds:.0f} s"
        elif code != 0 and not found:
            line.why = f"exit code {code}: {self.reason(step)}"
            if "does not compute in" in line.why:
                line.verdict = "absent"
        else:
            line.verdict, line.why, line.figures = judge(found, used)
        self.add(line)
        return found

    def reason(self, step):
        """The first line of a log that tells of an error."""
        log = self.out / f"{re.sub(r'[^A-Za-z0-9.]+', '-', step)}.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        telling = [line for line in lines if re.search(r"error|panic|fail|Traceback", line, re.IGNORECASE)]
        return (telling or lines or ["it wrote nothing"])[0][:200]


def last_json(path):
    for text in reversed(path.read_text(errors="replace").splitlines()):
        if text.startswith("{"):
            try:
                return json.loads(text)
            except ValueError:
                pass
    return {}


@dataclass
class Target:
    """A device, as one build of `weal` reaches it."""

    weal: str
    build: str
    number: int
    name: str

    def label(self):
        return f"{self.build} gpu:{self.number}"

    def command(self, *arguments):
        return [self.weal, *arguments, "--device", f"gpu:{self.number}"]


def find_targets(runner, builds, most):
    """Every GPU that every build finds."""
    found = []
    for build, weal in builds:
        for number in range(most):
            step = f"doctor {build} gpu:{number}"
            names = []

            def judge(result, _used):
                device = next((check for check in result.get("checks", []) if check["what"] == "device"), None)
                if device is None or device["state"] == "wrong":
                    return "absent", (device or {}).get("found", "no device"), {}
                names.append(device["found"].split(";")[0])
                return "pass", names[0], {"checks": result["checks"], "models": result["models"]}

            runner.step(step, [weal, "doctor", "--no-measure", "--json", "--device", f"gpu:{number}"], judge)
            if not names:
                break
            found.append(Target(weal, build, number, names[0]))
    return found


def judge_check(result, _used):
    same = {"same": "the same bytes", "differs": "OTHER BYTES", "cpu": "compressed on the CPU"}
    why = (
        f"{result['precision']}: losses within {result['largest_loss_difference']:.1e} of the CPU's "
        f"(allowed {result['tolerance']:.0e}), {same[result['compression']]}"
    )
    passes = result["passes"] and result["compression"] == "same"
    return ("pass" if passes else "fail"), why, result


def judge_train(result, used):
    measured = result["peak_memory_bytes"] or 0
    predicted = result["predicted_memory_bytes"]
    fits = measured <= MEMORY_FACTOR * predicted
    driver = "" if used is None else f", driver {used / 1e9:.2f} GB"
    why = (
        f"{result['tokens_per_second']:.0f} tokens/s, first step {result['first_step_seconds']:.1f} s, reserved "
        f"{measured / 1e9:.2f} GB of {predicted / 1e9:.2f} GB predicted{driver}; {result['plan']}"
    )
    return ("pass" if fits else "memory"), why, {**result, "driver_memory_bytes": used}


def judge_torch(result, used):
    why = f"{result['tokens_per_second']:.0f} tokens/s, reserved {result['peak_memory_bytes'] / 1e9:.2f} GB"
    return "measured", why, {**result, "driver_memory_bytes": used}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Node:
    """A node that trains alone on one GPU."""

    def __init__(self, runner, target, folder):
        self.runner, self.target, self.folder = runner, target, folder
        self.page = f"127.0.0.1:{free_port()}"
        self.log = open(runner.out / f"round-{target.build}-{target.number}.log", "ab")
        command = target.command("run", "--dir", folder, "--port", "0", "--no-mdns", "--page", self.page)
        self.process = subprocess.Popen(
            [str(part) for part in command], stdout=self.log, stderr=self.log, env=runner.environment()
        )

    def status(self):
        command = [self.target.weal, "status", "--json", "--page", self.page]
        found = subprocess.run(command, capture_output=True, text=True)
        return json.loads(found.stdout) if found.returncode == 0 else None

    @staticmethod
    def losses(history):
        losses = [past.get("heldout_nats_per_byte") for past in history]
        return [loss for loss in losses if loss is not None]

    def wait(self, rounds, end):
        """Waits until that many rounds are decided. Returns the status, or None if that takes too long."""
        while time.monotonic() < end and self.process.poll() is None:
            status = self.status()
            # The held-out loss is measured after the round, when the next one may be decided already.
            late = [past for past in status["history"] if past["round"] + 1 >= rounds] if status else []
            if self.losses(late):
                return status
            time.sleep(0.5)
        return None

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def round_step(runner, target, text):
    line = Line(step=f"round {target.label()}", command="weal new; weal run; kill -9; weal run; weal eval")
    start = time.monotonic()
    try:
        line.verdict, line.why, line.figures = rounds(runner, target, text)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        line.why = repr(error)
    line.seconds = time.monotonic() - start
    runner.add(line)


def rounds(runner, target, text):
    folder = runner.out / f"run-{target.build}-{target.number}"
    shutil.rmtree(folder, ignore_errors=True)
    data = ["--data", text] if text else []
    subprocess.run([target.weal, "new", "--dir", folder, *data], check=True, capture_output=True)
    end = time.monotonic() + min(SECONDS["round"], runner.left())
    histories = []
    for wanted in (2, 3):  # rounds decided in all
        node = Node(runner, target, folder)
        try:
            status = node.wait(wanted, end)
        finally:
            node.kill()  # as `kill -9` does
        if status is None:
            return "fail", f"round {wanted} was not decided in time", {"histories": histories}
        histories.append(status["history"])
        if status["learner"]["devices_lost"]:
            return "fail", "the device was lost", {"histories": histories}
    losses = [loss for history in histories for loss in Node.losses(history)]
    sample = runner.out / "sample.txt"
    sample.write_text("To be, or not to be: that is the question. " * 200)
    found = []
    for device in ("cpu", f"gpu:{target.number}"):
        command = [target.weal, "eval", sample, "--dir", folder, "--json", "--device", device]
        ran = subprocess.run(command, capture_output=True, text=True, env=runner.environment(), timeout=120)
        found.append(json.loads(ran.stdout.splitlines()[-1])["nats_per_token"])
    apart = abs(found[1] / found[0] - 1)
    figures = {"heldout": losses, "eval_cpu": found[0], "eval_gpu": found[1], "histories": histories}
    why = f"held-out {losses[0]:.3f} to {losses[-1]:.3f}, restarted; `weal eval` differs from the CPU's by {apart:.1e}"
    return ("pass" if losses[-1] < losses[0] and apart < 2e-3 else "fail"), why, figures


def train_command(target, preset, precision, steps):
    flags = ["--preset", preset, "--batch", BATCH, "--steps", steps, "--precision", precision, "--fit", "--json"]
    return target.command("bench", "train", *flags)


def home_command(target, context, memory):
    flags = ["--preset", "1b", "--context", context, "--batch", 2, "--steps", 3]
    return target.command("bench", "train", *flags, "--fit", "--memory", memory, "--json")


def torch_command(preset, precision, plan, steps):
    micro_batch = re.search(r"micro-batch (\d+)", plan)
    sizes = ["--batch", BATCH, "--steps", steps, "--micro-batch", micro_batch.group(1) if micro_batch else 0]
    script = HERE / "pytorch_llama.py"
    return [sys.executable, script, "--preset", preset, "--device", "cuda", "--precision", precision, "--json", *sizes]


def precisions(runner, target, steps):
    """The precisions that a device has; checks each against the CPU."""
    found = []
    for precision in PRECISIONS:
        step = f"check {target.label()} {precision}"
        command = target.command("bench", "check", "--steps", steps, "--precision", precision, "--json")
        if runner.step(step, command, judge_check):
            found.append(precision)
    return found


def main():
    arguments = argparse.ArgumentParser(description="Checks and measures weal on the GPUs of this machine.")
    arguments.add_argument("--weal", action="append", required=True, metavar="[NAME=]PATH")
    arguments.add_argument("--out", type=Path, default=Path("gpu-results"))
    arguments.add_argument("--presets", default="nano,small,medium,1b")
    arguments.add_argument("--steps", type=int, default=10, help="steps to time")
    arguments.add_argument("--check-steps", type=int, default=10)
    arguments.add_argument("--text", help="text file for the run; by default the built-in generator makes it")
    arguments.add_argument("--only", default="check,round,tune,train,home,torch", help="kinds of steps to run")
    arguments.add_argument("--gpus", type=int, default=4, help="most GPUs to try")
    arguments.add_argument("--jobs", type=int, default=1, help="presets to tune side by side")
    arguments.add_argument("--minutes", type=float, default=60, help="start no step after this time")
    settings = arguments.parse_args()
    settings.out.mkdir(parents=True, exist_ok=True)
    runner = Runner(settings.out.resolve(), settings.minutes)
    builds = [tuple(weal.split("=", 1)) if "=" in weal else ("weal", weal) for weal in settings.weal]
    builds = [(name, str(Path(path).resolve())) for name, path in builds]
    kinds, presets = settings.only.split(","), settings.presets.split(",")
    targets = find_targets(runner, builds, settings.gpus)

    with concurrent.futures.ThreadPoolExecutor(settings.jobs) as pool:
        has = dict(zip(range(len(targets)), pool.map(
            lambda target: precisions(runner, target, settings.check_steps) if "check" in kinds else PRECISIONS,
            targets,
        )))
        loads = [
            (target, preset, precision)
            for preset in presets
            for index, target in enumerate(targets)
            for precision in has[index]
        ]
        if "tune" in kinds:
            tune = lambda load: runner.step(f"tune {load[0].label()} {load[1]} {load[2]}",
                                            train_command(*load, 1), judge_train)
            list(pool.map(tune, loads))
        if "round" in kinds:
            list(pool.map(lambda target: round_step(runner, target, settings.text), targets))
    plans = {}
    if "train" in kinds:
        for target, preset, precision in loads:
            step = f"train {target.label()} {preset} {precision}"
            found = runner.step(step, train_command(target, preset, precision, settings.steps), judge_train)
            plans.setdefault((preset, precision), found.get("plan", ""))
    if "home" in kinds:
        for target in targets:
            # A plan needs at most nine tenths of it.
            for context, memory in ((1024, "6 GB"), (2048, "7 GB")):
                step = f"home {target.label()} 1b {context} in {memory}"
                runner.step(step, home_command(target, context, memory), judge_train)
    if "torch" in kinds:
        for (preset, precision), plan in plans.items():
            # A GPU's f32 products are in TF32 here, if it has that.
            for theirs in ("f32", "tf32") if precision == "f32" else (precision,):
                step = f"torch {preset} {theirs}"
                runner.step(step, torch_command(preset, theirs, plan, settings.steps), judge_torch)
    bad = [line.step for line in runner.lines if line.verdict in ("fail", "memory", "timeout")]
    print(f"{len(runner.lines)} steps, {len(bad)} of them not passed; see {settings.out / 'results.json'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
