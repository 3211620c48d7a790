"""What a comparison ran on, in words."""
import hashlib
import os
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The CPU's abilities on which kernels are chosen, as /proc/cpuinfo spells them on x86 and aarch64.
ABILITIES = ["avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8",
             "asimd", "asimddp", "asimdhp", "fphp", "i8mm", "sve"]


def cpu_name():
    """The processor's name, as `kinglet-benches` has it too."""
    found = re.search(r"^model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    board = pathlib.Path("/proc/device-tree/model")
    if found:
        return found.group(1).strip()
    return board.read_text().strip("\0\n") if board.exists() else platform.machine()


def results_folder():
    """benches/results/CPU."""
    return ROOT / "benches/results" / re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")


def checksum(path):
    """The first 12 digits of a file's SHA-256."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:12]


def commit():
    """This checkout's commit, with `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def load():
    """Processes that wanted a core, on average over the last minute."""
    return os.getloadavg()[0]


def disturbed(loads, threads):
    """A Markdown line if other programs took the cores away, else nothing.

    A least time is safe from them only if whole runs fit into the time one process gets at a stretch, some
    milliseconds: longer runs are hit, shorter ones are not, so that ratios lean to the faster engine.
    """
    # Our own process counts as its threads; half a core more is the noise of an idle machine.
    if max(loads) <= max(os.cpu_count(), threads) + 0.5:
        return []
    return [f"- **disturbed**: load {loads[0]:.1f} to {loads[1]:.1f} on {os.cpu_count()} cores; such ratios lean to the "
            "engine whose runs are shorter: do not quote them"]


def describe(programs, versions):
    """Markdown lines: machine, kernel, abilities, what was measured, and the versions given by name."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    flags = set(found.group(1).split()) if found else set()
    return [
        f"- machine: {cpu_name()}, {os.cpu_count()} cores, {platform.machine()}",
        f"- abilities: {' '.join(a for a in ABILITIES if a in flags)}",
        f"- kernel: {platform.system()} {platform.release()}",
        f"- kinglet: {programs}",
    ] + [f"- {name}: {version}" for name, version in versions.items()]
