#!/usr/bin/env python3
"""sass.py FATBIN: what is in the image of the kernels.

Each architecture is there; no kernel that runs in a step reads or writes local memory (LDL, STL); the
products and attention use the tensor cores; what blocks exchange within a launch is not read as if it
were constant. Exits 77 where cuobjdump is not installed.
"""

import re
import shutil
import subprocess
import sys

ARCHITECTURES = {"sm_80", "sm_86", "sm_89", "sm_90a"}
TENSOR_CORE = re.compile(r"^(matmul_|attention_s|conveyor_)")
TOGETHER = re.compile(r"^conveyor_")


def dump(tool, *args):
    return subprocess.run([tool, *args], capture_output=True, text=True, check=True).stdout


def main():
    tool = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    if not tool:
        print("skipped: no cuobjdump here")
        return 77
    problems, kernels = [], set()
    found = set(re.findall(r"\.(sm_\d+a?)\.cubin", dump(tool, "--list-elf", sys.argv[1])))
    for missing in ARCHITECTURES - found:
        problems.append(f"no code for {missing}")
    if ".ptx" not in dump(tool, "--list-ptx", sys.argv[1]):
        problems.append("no PTX for newer devices")
    for arch in sorted(ARCHITECTURES & found):
        # "Function : name", then its instructions.
        parts = re.split(r"Function : (\S+)", dump(tool, "--dump-sass", "--gpu-architecture", arch, sys.argv[1]))
        for name, code in zip(parts[1::2], parts[2::2]):
            kernels.add(name)
            if re.search(r"\b(LDL|STL)\b", code):
                problems.append(f"{arch}: {name} uses local memory")
            if TENSOR_CORE.match(name) and not re.search(r"\bHMMA\b", code):
                problems.append(f"{arch}: {name} does without tensor cores")
            if TOGETHER.match(name) and re.search(r"\bLDG\S*\.CONSTANT\b", code):
                problems.append(f"{arch}: {name} reads as constant what others may write")
    if len(kernels) < 20:
        problems.append(f"only {len(kernels)} kernels were found")
    print("\n".join(problems) or f"{len(kernels)} kernels for {', '.join(sorted(found))}: no local memory")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
