"""Small valid files of every format that has a reader, as the mutator's starting points."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

FRAMES = np.random.default_rng(5).poisson(3.0, (12, 9, 8)).astype(np.uint16)
SCAN = FRAMES.reshape(3, 4, 9, 8)


def npy(folder: Path) -> list[str]:
    np.save(folder / "a.npy", FRAMES)
    np.save(folder / "b.npy", np.asfortranarray(SCAN.astype(">f4")))
    np.save(folder / "c.npy", FRAMES[0])
    return ["a.npy", "b.npy", "c.npy"]


def npz(folder: Path) -> list[str]:
    np.savez(folder / "a.npz", data=FRAMES)
    np.savez_compressed(folder / "b.npz", data=np.asfortranarray(SCAN))
    return ["a.npz", "b.npz"]


def mib(folder: Path) -> list[str]:
    head = "MQ1,{:06d},00384,01,0008,0009,U16,1x1,01,2026-11-29 12:00:00.000000,0.001000,0,0,0.0E0,"
    frames = [head.format(k + 1).encode().ljust(384, b" ") + f.astype(">u2").tobytes() for k, f in enumerate(FRAMES)]
    (folder / "a.mib").write_bytes(b"".join(frames))
    (folder / "a.hdr").write_text("HDR,\nFrames in Acquisition (Number):\t12\nScanX:\t4\nScanY:\t3\nEnd\n")
    return ["a.mib"]


def raw(folder: Path) -> list[str]:
    frame = np.zeros((130, 128), "<f4")
    (folder / "scan_x2_y1.raw").write_bytes(np.stack([frame, frame + 1]).tobytes())
    parameters = "<scan_resolution_x>2</scan_resolution_x><scan_resolution_y>1</scan_resolution_y>"
    (folder / "scan.xml").write_text(
        '<?xml version="1.0"?><root><type>scan</type><raw_file filename="scan_x2_y1.raw"/><pix_x>2</pix_x>'
        f'<pix_y>1</pix_y><scan_parameters mode="acquire">{parameters}</scan_parameters></root>'
    )
    return ["scan.xml", "scan_x2_y1.raw"]


def pt(folder: Path) -> list[str]:
    import torch

    torch.save(torch.from_numpy(FRAMES.astype("i2")), folder / "a.pt")
    torch.save({"data": torch.from_numpy(SCAN.astype("f4"))}, folder / "b.pt")
    torch.save(torch.from_numpy(FRAMES.astype("i2")), folder / "c.pt", _use_new_zipfile_serialization=False)
    return ["a.pt", "b.pt", "c.pt"]


def tiff(folder: Path) -> list[str]:
    import tifffile

    tifffile.imwrite(folder / "a.tif", FRAMES, photometric="minisblack")
    tifffile.imwrite(folder / "b.tif", FRAMES, photometric="minisblack", compression="zlib", predictor=True)
    tifffile.imwrite(
        folder / "c.tif", np.tile(FRAMES[:3], (1, 3, 3)), tile=(16, 16), bigtiff=True, photometric="minisblack"
    )
    tifffile.imwrite(folder / "d.tif", FRAMES[:4], ome=True, photometric="minisblack", metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "e.tif", FRAMES[0], photometric="minisblack", rowsperstrip=4)
    return ["a.tif", "b.tif", "c.tif", "d.tif", "e.tif"]


def fits(folder: Path) -> list[str]:
    from astropy.io import fits as astropy_fits

    astropy_fits.PrimaryHDU(FRAMES).writeto(folder / "a.fits")
    image = astropy_fits.ImageHDU(FRAMES[0].astype("f4"), name="SCI")
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), image]).writeto(folder / "b.fits")
    packed = astropy_fits.CompImageHDU(np.tile(FRAMES[0], (4, 4)).astype("i2"), compression_type="RICE_1")
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), packed]).writeto(folder / "c.fits")
    return ["a.fits", "b.fits", "c.fits"]


def hdf5(folder: Path) -> list[str]:
    import h5py
    import hdf5plugin

    with h5py.File(folder / "a.h5", "w") as file:
        file["entry/data"] = FRAMES
        file["entry/dim0"] = np.arange(12.0)
    with h5py.File(folder / "b.h5", "w") as file:
        file.create_dataset("data", data=FRAMES, chunks=(5, 9, 8), compression="gzip", shuffle=True, fletcher32=True)
    with h5py.File(folder / "c.h5", "w", libver="latest") as file:
        file.create_dataset("data", data=SCAN, chunks=(2, 3, 9, 8), **hdf5plugin.Bitshuffle(cname="lz4"))
        file["link"] = h5py.SoftLink("/data")
    with h5py.File(folder / "d.h5", "w") as file:
        file.create_dataset("data", data=FRAMES, chunks=(3, 9, 8), **hdf5plugin.Blosc2(cname="zstd"))
        file["image"] = FRAMES[0]
    layout = h5py.VirtualLayout((12, 9, 8), "u2")
    layout[:] = h5py.VirtualSource("b.h5", "data", shape=(12, 9, 8))
    with h5py.File(folder / "e.h5", "w") as file:
        file.create_virtual_dataset("all", layout)
    return ["a.h5", "b.h5", "c.h5", "d.h5", "e.h5"]


def arina(folder: Path) -> list[str]:
    import h5py
    import hdf5plugin

    with h5py.File(folder / "s_data_000001.h5", "w") as file:
        data = file.create_dataset(
            "entry/data/data", data=FRAMES, chunks=(1, 9, 8), **hdf5plugin.Bitshuffle(cname="lz4")
        )
        data.attrs["image_nr_low"], data.attrs["image_nr_high"] = 1, 12
    with h5py.File(folder / "s_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("s_data_000001.h5", "/entry/data/data")
        group = file.create_group("entry/instrument/detector/detectorSpecific")
        group["nimages"], group["ntrigger"], group["pixel_mask"] = 12, 1, np.zeros((9, 8), "u4")
        file["entry/instrument/detector/description"] = b"ARINA"
    return ["s_master.h5"]


def _zarr(folder: Path, version: int, **options: object) -> list[str]:
    import zarr

    store = zarr.create_array(
        folder / "a.zarr", shape=SCAN.shape, chunks=(2, 3, 9, 8), dtype="u2", zarr_format=version, **options
    )
    store[:] = SCAN
    return ["a.zarr"]


def zarr2(folder: Path) -> list[str]:
    return _zarr(folder, 2)


def zarr3(folder: Path) -> list[str]:
    return _zarr(folder, 3, shards=(2, 6, 9, 8))


def zarr_zip(folder: Path) -> list[str]:
    import zarr
    from zarr.storage import ZipStore

    with ZipStore(folder / "a.zip", mode="w") as store:
        zarr.create_array(store, shape=FRAMES.shape, chunks=(4, 9, 8), dtype="u2")[:] = FRAMES
    return ["a.zip"]


def vendor(folder: Path) -> list[str]:
    header = np.zeros(256, "<i4")
    header[:4], header[16] = (8, 9, 12, 6), 1
    header[52] = int.from_bytes(b"MAP ", "little")
    (folder / "a.mrc").write_bytes(header.tobytes() + FRAMES.tobytes())
    return ["a.mrc"]


def pictures(folder: Path) -> list[str]:
    from PIL import Image

    colours = np.repeat(FRAMES[0].astype("u1")[..., None] * 9, 3, axis=2)
    names = ["a.png", "b.jpg", "c.bmp", "d.gif", "e.pgm", "f.webp"]
    for name in names:
        Image.fromarray(colours[..., 0] if name == "e.pgm" else colours).save(folder / name)
    return names


SEEDS: dict[str, Callable[[Path], list[str]]] = {
    "npy": npy, "npz": npz, "mib": mib, "raw": raw, "pt": pt, "tiff": tiff, "fits": fits, "hdf5": hdf5,
    "arina": arina, "zarr2": zarr2, "zarr3": zarr3, "zarr_zip": zarr_zip, "vendor": vendor, "pictures": pictures,
}  # fmt: skip
