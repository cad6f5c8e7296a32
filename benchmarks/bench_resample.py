"""`resample_affine` at 1024^2 against general-purpose libraries, one thread, side by side in one run."""

import importlib.util

import numpy as np

import stackalign
from _harness import median, ratio, rounds, save
from peers import resample as peers

SIDE = 1024
MATRICES = {
    "shift": [[1.0, 0.0, 1.3], [0.0, 1.0, -2.6]],
    "shift+scale": [[1.01, 0.0, 1.3], [0.0, 0.99, -0.7]],
    "rotated": [[0.9962, 0.0872, -40.0], [-0.0872, 0.9962, 45.0]],
}


def main() -> None:
    image = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    image[np.random.default_rng(1).random(image.shape) < 0.05] = np.nan
    rows = []
    for name, entries in MATRICES.items():
        m = np.array(entries)
        for order in (0, 1, 3):
            runs = {
                "ours": lambda m=m, o=order: stackalign.resample_affine(image, m, order=o, workers=1),
                "2 workers": lambda m=m, o=order: stackalign.resample_affine(image, m, order=o, workers=2),
                "scipy": lambda m=m, o=order: peers.scipy(image, m, o),
            }
            if importlib.util.find_spec("cv2") is not None and order < 3:  # its cubic kernel is not a spline
                runs["opencv"] = lambda m=m, o=order: peers.opencv(image, m, o)
            if importlib.util.find_spec("torch") is not None and order < 3:
                runs["torch"] = lambda m=m, o=order: peers.grid_sample(image, m, o)
            times = rounds(runs, 9)
            whole = np.nan_to_num(image)
            found = stackalign.resample_affine(whole.astype(np.float64), m, order=order)
            error = found - peers.scipy(whole.astype(np.float64), m, order)
            rows.append(
                {
                    "case": f"order {order}, {name}",
                    "ns_per_pixel": median(times["ours"]) / SIDE**2 * 1e9,
                    "two_workers": ratio(times, "ours", "2 workers"),
                    "error_float64": float(np.nanmax(np.abs(error))),
                    **{f"over_{peer}": ratio(times, peer, "ours") for peer in list(runs)[2:]},
                }
            )
            print({k: round(v, 16) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    print(f"saved {save('resample', rows)}")


if __name__ == "__main__":
    main()
