"""
Crop a 4D-STEM scan and train on it
===================================

Most pixels of a diffraction pattern are dark. This tutorial crops a scan to the radius that keeps 98 % of the intensity
of every pattern, looks at what was kept, and feeds the cropped file to a PyTorch training loop.
"""

# %%
# A scan of 20 x 15 positions with patterns of 128 x 128 pixels. ``create_test_data`` makes Airy patterns of varying
# size and position, with Poisson noise, so that the numbers below resemble those of an electron-counting detector.

import tempfile
from pathlib import Path

import numpy as np

from stackalign import plot
from stackalign.crop import CroppingConfig, create_test_data, crop_file

folder = Path(tempfile.mkdtemp())
patterns = create_test_data(300, 128, 0.0, seed=0, counts=1e5, radius=0.06, dtype=np.uint16)
np.save(folder / "scan.npy", patterns.reshape(20, 15, 128, 128))

# %%
# From file to file, in bounded memory. The command ``stackalign crop scan.npy -o cropped.npy`` does the same.

config = CroppingConfig(target_retention=0.98, margin_pixels=2, visualization=False, verbose=False)
result = crop_file(folder / "scan.npy", folder / "cropped.npy", config)

print("status:", result.status)
print("radius:", result.analysis.global_radius, "pixels; window:", result.analysis.window)
print(f"{result.saved:.0%} of the bytes saved")
print(f"lowest retention of a pattern: {result.validation.used.min():.4f}")

# %%
# The radius of every pattern, and its place in the scan. One outlier sets the window for all; a percentile as
# ``radius_policy`` would ignore it, and the patterns that lose intensity by that would be named.

figure = plot.crop_figure(result)

# %%
# ``CroppedDataset`` reads patterns by their number, in as many worker processes as the ``DataLoader`` has. It needs the
# extra ``torch``; without PyTorch the rest of this page is skipped.

try:
    import torch
except ImportError:
    print("PyTorch is not installed: nothing to train")
else:
    from torch.utils.data import DataLoader

    from stackalign.torch import CroppedDataset

    torch.manual_seed(0)
    data = CroppedDataset(folder / "cropped.npy", normalize="max")
    loader = DataLoader(data, batch_size=50, shuffle=True)
    side = data.info.shape[-1]
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 5, stride=4),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(4, 1, 5, stride=4, output_padding=(side - 5) % 4),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(3):
        total = 0.0
        for batch in loader:
            loss = torch.nn.functional.mse_loss(model(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: mean squared error {total / len(data):.4f}")
