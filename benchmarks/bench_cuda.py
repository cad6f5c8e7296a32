"""The radial operations on a CUDA device, against copying the same data on the device once.

Also compares every result with the CPU backend: radii, centres and totals must have the same bits.
"""

import numpy as np

import stackalign
from _harness import median, ratio, rounds, save
from bench_radial import FRACTION, patterns


def case(side: int, n: int, dtype: str) -> dict:
    import cupy

    some, _ = patterns(side, 256, dtype)
    host = np.concatenate([some] * (n // 256))
    data = stackalign.asarray(host, "cuda")
    centers = stackalign.to_numpy(stackalign.centroid(data))
    copy = cupy.empty_like(data)
    corner, shape = (side // 4, side // 4), (side // 2, side // 2)

    def timed(run, x=data):
        def call():
            run()
            stackalign.synchronize(x)

        return call

    times = rounds(
        {
            "copy": timed(lambda c=copy, d=data: cupy.copyto(c, d)),
            "radius": timed(lambda d=data, c=centers: stackalign.retention_radius(d, c, FRACTION)),
            "both": timed(lambda d=data: stackalign.pattern_summary(d, FRACTION)),
            "crop": timed(lambda d=data: stackalign.crop_windows(d, corner, shape)),
            "statistics": timed(lambda d=data: stackalign.stack_statistics(d)),
            "upload": timed(lambda h=host: stackalign.asarray(h, "cuda")),
        },
        11,
    )
    ours = stackalign.pattern_summary(data, FRACTION)
    cpu = stackalign.pattern_summary(host, FRACTION)
    return {
        "case": f"{n} x {side}^2 {dtype}",
        "copy_gb_per_s": 2 * host.nbytes / median(times["copy"]) / 1e9,
        "upload_gb_per_s": host.nbytes / median(times["upload"]) / 1e9,
        **{f"{what}_over_read": 2 * ratio(times, what, "copy") for what in ("radius", "both", "crop", "statistics")},
        "patterns_per_s": n / median(times["both"]),
        "same_bits_as_cpu": all(
            np.array_equal(stackalign.to_numpy(getattr(ours, field)), getattr(cpu, field))
            for field in ("total", "centers", "radii", "minimum", "maximum", "n_valid")
        ),
    }


def main() -> None:
    import cupy

    device = cupy.cuda.Device()
    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    rows = []
    for side, n in ((256, 8192), (512, 2048)):
        for dtype in ("float32", "uint16"):
            rows.append(case(side, n, dtype))
            print({k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    print(f"saved {save('radial', rows, device=name.lower().replace(' ', '-'))}")


if __name__ == "__main__":
    main()
