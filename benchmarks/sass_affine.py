"""Instruction slots per pixel and candidate of the inner loops of `affine_ncc.cu`, from the machine code.

Needs `cuda-bindings`, NVRTC and nvdisasm (of the CUDA toolkit, or ``pip install nvidia-cuda-nvdisasm``); no GPU.
``python benchmarks/sass_affine.py [nvdisasm]`` prints a row for each stretch of code without a branch that adds up
pixels: 32 of them in the separable kernel, where they are unrolled, and one in the others.

Slots per pixel and candidate on sm_90 beside what was thought on paper, before there was a kernel:

====================================================  =======  ==================
loop                                                  counted  paper, tuned
====================================================  =======  ==================
separable, masked, rows one after the other (330/32)  10.3     9-10 (17 as it was)
separable, masked, other rows (502/32)                15.7
separable, no NaN in the tile (207/32)                6.5      5.5 (10 as it was)
any matrix                                            69       about 20
====================================================  =======  ==================

The paper's figure for any matrix has coordinates in float32 and taps in pairs; ours are in fixed point of 64 bits, so
that the validity of a pixel is the same on every backend.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from cuda.bindings import nvrtc

from stackalign.backends.cuda._compilation import OPTIONS
from stackalign_kernels import cuda_source

ARCHITECTURE = 90


def cubin(name: str) -> bytes:
    _, program = nvrtc.nvrtcCreateProgram(cuda_source(name).encode(), b"kernels.cu", 0, [], [])
    options = [f"--gpu-architecture=sm_{ARCHITECTURE}", *OPTIONS]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(status.name)
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    code = b" " * size
    nvrtc.nvrtcGetCUBIN(program, code)
    return code


def blocks(disassembly: str):
    """Yield the entry and the instructions of each stretch of code that is entered and left at its ends only."""
    entry, found = "", []
    for line in disassembly.splitlines():
        if match := re.match(r"\s*\.text\.(\w+):", line):
            entry = match[1]
        if re.match(r"\s*\.L_x_\d+:", line) and found:
            yield entry, found
            found = []
        if match := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", line):
            found.append(match[1].split(".")[0])
            if found[-1] in ("BRA", "EXIT", "RET"):
                yield entry, found
                found = []


def main() -> None:
    tool = sys.argv[1] if len(sys.argv) > 1 else shutil.which("nvdisasm")
    if tool is None:
        raise SystemExit("nvdisasm was not found: give its path")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "affine_ncc.cubin")
        path.write_bytes(cubin("affine_ncc"))
        text = subprocess.run([tool, "-c", str(path)], capture_output=True, text=True, check=True).stdout
    print(f"sm_{ARCHITECTURE}: entry, instructions, products, most frequent")
    for entry, instructions in blocks(text):
        count = Counter(instructions)
        if count["FFMA"] >= 3:
            print(f"{entry:24} {len(instructions):5} {count['FFMA']:4}  {dict(count.most_common(9))}")


if __name__ == "__main__":
    main()
