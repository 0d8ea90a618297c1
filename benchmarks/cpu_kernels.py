"""Compare the kernels of search_spaces.jax_ops with the plain `lax` operations, forward and backward, on this CPU.

    python benchmarks/cpu_kernels.py [--out benchmarks/cpu_kernels.json]

Each pair is measured in turn within one run (A, B, A, B, …) and compared as the median of the ratios, because the
machine may be shared.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nas import backend, provenance

backend.prepare()
import jax  # noqa: E402  (the backend reads its environment once)
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

from search_spaces import jax_ops  # noqa: E402

LAYOUT = ("NHWC", "HWIO", "NHWC")
ROUNDS = 15


def lax_depthwise(x: Any, k: Any, *, dilation: int) -> Any:
    return lax.conv_general_dilated(
        x, k, (1, 1), "SAME", rhs_dilation=(dilation,) * 2, dimension_numbers=LAYOUT, feature_group_count=x.shape[3]
    )


def lax_transpose(x: Any, k: Any, *, stride: int) -> Any:
    return lax.conv_transpose(x, k, (stride,) * 2, "SAME", dimension_numbers=LAYOUT, transpose_kernel=True)


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = {
    "depthwise 5×5 dilation 2, 8×32×32×32": (
        partial(lax_depthwise, dilation=2), partial(jax_ops.depthwise_conv, dilation=2), (8, 32, 32, 32), (5, 5, 1, 32)
    ),
    "transposed 3×3, 8×32×32×32 → 16": (
        partial(lax_transpose, stride=2), partial(jax_ops.transpose_conv, stride=2), (8, 32, 32, 32), (3, 3, 16, 32)
    ),
    "transposed 3×3, 8×64×64×16 → 8": (
        partial(lax_transpose, stride=2), partial(jax_ops.transpose_conv, stride=2), (8, 64, 64, 16), (3, 3, 8, 16)
    ),
    "bias, 8×64×64×16": (lambda x, b: x + b, jax_ops.add_channels, (8, 64, 64, 16), (16,)),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, object] = {"provenance": provenance.collect() | {"command": " ".join(["python", *sys.argv])}}
    report |= {name: compare(*case) for name, case in CASES.items()}
    text = json.dumps(report, indent=1, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def compare(plain: Any, ours: Any, x_shape: tuple[int, ...], k_shape: tuple[int, ...]) -> dict[str, float]:
    x, k = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate((x_shape, k_shape)))
    steps = [
        jax.jit(jax.value_and_grad(lambda x, k, f=f: jnp.sum(f(x, k) ** 2), argnums=(0, 1))) for f in (plain, ours)
    ]
    for step in steps:
        jax.block_until_ready(step(x, k))
    times = [[once(step, x, k) for step in steps] for _ in range(ROUNDS)]
    return {
        "lax_ms": statistics.median(a for a, _ in times),
        "ours_ms": statistics.median(b for _, b in times),
        "ratio_ours_to_lax": statistics.median(b / a for a, b in times),
    }


def once(step: Any, x: Any, k: Any) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(step(x, k))
    return (time.perf_counter() - begun) * 1e3


if __name__ == "__main__":
    main()
