"""Decoding with known answers, files that must be refused, and the pyramid."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pngs import chunk, png
from PIL import Image, ImageOps

from blastogan.data.images import decoding as module
from blastogan.data.images.decoding import decode, load_framed, load_image, pyramid
from blastogan.data.images.framing import Crop
from blastogan.errors import UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
LUMA = np.asarray(Image.fromarray(RGB).convert("L"))


def save(path: Path, image: Image.Image | np.ndarray, **options: object) -> Path:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


class TestModes:
    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
    def test_rgb_and_grey_are_exact_at_their_own_size(self, tmp_path, suffix):
        path = save(tmp_path / f"rgb.{suffix}", RGB)
        np.testing.assert_array_equal(load_image(path, 8, 3), RGB.transpose(2, 0, 1))
        np.testing.assert_array_equal(load_image(path, 8, 1), LUMA[None])
        path = save(tmp_path / f"grey.{suffix}", GREY)
        np.testing.assert_array_equal(load_image(path, 8, 1), GREY[None])
        np.testing.assert_array_equal(load_image(path, 8, 3), np.stack([GREY] * 3))

    def test_result_is_contiguous_uint8(self, tmp_path):
        array = load_image(save(tmp_path / "a.png", RGB), 4, 3)
        assert (array.shape, array.dtype) == ((3, 4, 4), np.uint8)
        assert array.flags["C_CONTIGUOUS"]

    def test_alpha_is_dropped(self, tmp_path):
        alpha = RNG.integers(0, 256, (8, 8, 1), dtype=np.uint8)
        path = save(tmp_path / "rgba.png", np.concatenate([RGB, alpha], axis=2))
        np.testing.assert_array_equal(load_image(path, 8, 3), RGB.transpose(2, 0, 1))
        path = save(tmp_path / "la.png", np.concatenate([GREY[..., None], alpha], axis=2))
        np.testing.assert_array_equal(load_image(path, 8, 1), GREY[None])

    @pytest.mark.parametrize("transparency", [None, b"\x00\x80"])
    def test_palette(self, tmp_path, transparency):
        image = Image.fromarray(GREY // 64).convert("P")
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
        options = {"transparency": transparency} if transparency else {}
        path = save(tmp_path / "p.png", image, **options)
        expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]])[GREY // 64]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(load_image(path, 8, 3), expected.transpose(2, 0, 1))

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_grey_is_scaled_not_clipped(self, tmp_path, suffix):
        values = np.full((8, 8), 65535, dtype=np.uint16)
        values[0, :6] = [0, 128, 129, 257, 40000, 65406]
        array = load_image(save(tmp_path / f"a.{suffix}", values), 8, 1)
        assert array[0, 0].tolist() == [0, 0, 1, 1, 156, 254, 255, 255]

    def test_16_bit_grey_of_many_rows(self, tmp_path):
        values = np.arange(150 * 150, dtype=np.uint16).reshape(150, 150)
        array = load_image(save(tmp_path / "a.png", values), 150, 1)
        np.testing.assert_array_equal(array[0], (values.astype(int) + 128) // 257)

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_16_bit_grey_of_which_white_is_0(self, tmp_path, compression):
        values = np.array([[0, 257, 40000, 65535]] * 4, dtype=np.uint16)
        path = save(tmp_path / "a.tif", values, compression=compression)
        content = path.read_bytes()
        black_is_0, white_is_0 = (struct.pack("<HHII", 262, 3, 1, kind) for kind in (1, 0))
        assert content.count(black_is_0) == 1
        assert load_image(path, 4, 1)[0, 2].tolist() == [0, 1, 156, 255]
        path.write_bytes(content.replace(black_is_0, white_is_0))
        assert load_image(path, 4, 1)[0, 2].tolist() == [255, 254, 99, 0]

    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
    def test_one_bit(self, tmp_path, suffix):
        path = save(tmp_path / f"1.{suffix}", Image.fromarray(GREY).convert("1", dither=0))
        np.testing.assert_array_equal(load_image(path, 8, 1)[0], np.where(GREY > 127, 255, 0))

    def test_jpeg_of_grey_and_of_ycbcr(self, tmp_path):
        path = save(tmp_path / "grey.jpg", Image.new("L", (8, 8), 77))
        assert (load_image(path, 8, 3) == 77).all()
        path = save(tmp_path / "rgb.jpg", Image.new("RGB", (8, 8), (200, 100, 50)), quality=100)
        assert np.abs(load_image(path, 8, 3)[:, 4, 4] - np.array([200, 100, 50])).max() <= 2

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_alpha_of_grey_and_rgb_in_either_format(self, tmp_path, suffix):
        image = Image.fromarray(RGB)
        image.putalpha(9)
        path = save(tmp_path / f"rgba.{suffix}", image)
        np.testing.assert_array_equal(load_image(path, 8, 3), RGB.transpose(2, 0, 1))
        np.testing.assert_array_equal(load_image(path, 8, 1)[0], LUMA)
        image = Image.fromarray(GREY)
        image.putalpha(9)
        path = save(tmp_path / f"la.{suffix}", image)
        np.testing.assert_array_equal(load_image(path, 8, 1)[0], GREY)

    @pytest.mark.parametrize("colour_type", [2, 4, 6])
    def test_16_bit_colour_and_alpha(self, tmp_path, colour_type):
        values = [0x1234, 0x8080, 0xFEDC, 0x4000]
        values = {2: values[:3], 4: values[:2], 6: values}[colour_type]
        row = b"\0" + struct.pack(f">{len(values)}H", *values) * 8
        path = tmp_path / "a.png"
        path.write_bytes(png(8, 8, row * 8, bits=16, colour_type=colour_type))
        expected = [0x12] * 3 if colour_type == 4 else [0x12, 0x80, 0xFE]
        assert load_image(path, 8, 3)[:, 3, 3].tolist() == expected

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [("CMYK", "tif"), ("CMYK", "jpg"), ("LAB", "tif"), ("YCbCr", "tif")],
    )
    def test_other_colours_are_refused(self, tmp_path, mode, suffix):
        path = save(tmp_path / f"a.{suffix}", Image.new(mode, (8, 8)))
        with pytest.raises(UserError, match=rf"a\.{suffix}: {mode} colours, expected grey or RGB"):
            load_image(path, 8, 3)

    @pytest.mark.parametrize(
        ("order", "white", "kind", "text", "reason"),
        [
            (">", 1, 1, b"ImageJ=1.53t\nimages=5\n\0", "stack of 5"),
            ("<", 1, 2, b"x\0", "signed values of 16 bits"),
            (">", 0, 1, b"x\0", "white is zero"),
        ],
    )
    def test_odd_tiffs_are_refused_for_the_right_reason(
        self, tmp_path, order, white, kind, text, reason
    ):
        """A TIFF of 2 x 2 values of 16 bits in one page directory."""
        place = 8 + 2 + 12 * 9 + 4
        tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, white)]
        tags += [(270, 2, len(text), place), (273, 4, 1, place + len(text)), (279, 4, 1, 8)]
        content = struct.pack(f"{order}HIH", 42, 8, 9)
        for tag, size, count, value in [*tags, (339, 3, 1, kind)]:
            cell = (f"{order}HHIHH", value, 0) if size == 3 else (f"{order}HHII", value)
            content += struct.pack(cell[0], tag, size, count, *cell[1:])
        content = (b"MM" if order == ">" else b"II") + content + bytes(4) + text + bytes(80)
        (tmp_path / "odd.tif").write_bytes(content)
        with pytest.raises(UserError, match=reason):
            load_image(tmp_path / "odd.tif", 2, 1)

    def test_32_bits_are_refused(self, tmp_path):
        path = save(tmp_path / "f.tif", np.ones((8, 8), dtype=np.float32))
        with pytest.raises(UserError, match=r"f\.tif: 32 bits per value"):
            load_image(path, 8, 1)


class TestGeometry:
    @pytest.mark.parametrize("transpose", [False, True])
    def test_centre_square(self, tmp_path, transpose):
        wide = np.zeros((8, 14), dtype=np.uint8)
        wide[:, 3:11] = GREY
        path = save(tmp_path / "a.png", wide.T if transpose else wide)
        expected = GREY.T if transpose else GREY
        np.testing.assert_array_equal(load_image(path, 8, 1)[0], expected)

    def test_exif_orientation(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # shown after a quarter turn clockwise
        path = save(tmp_path / "a.png", GREY, exif=exif)
        np.testing.assert_array_equal(load_image(path, 8, 1)[0], np.rot90(GREY, -1))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_rgb_of_any_orientation_as_pillow_turns_it(self, tmp_path, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        alpha = Image.fromarray(np.concatenate([RGB, RGB[:5, :, ::-1]])).convert("RGBA")
        path = save(tmp_path / "a.png", alpha, exif=exif)
        expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        found = decode(path, 3)
        assert (found.size, found.tobytes()) == (expected.size, expected.tobytes())
        left, top = (expected.width - 8) // 2, (expected.height - 8) // 2
        square = np.asarray(expected)[top : top + 8, left : left + 8]
        np.testing.assert_array_equal(load_image(path, 8, 3), square.transpose(2, 0, 1))

    def test_uncompressed_tiff_that_lies_on_its_side(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        pixels = np.arange(40 * 24, dtype=np.uint8).reshape(24, 40)
        path = save(tmp_path / "a.tif", pixels, exif=exif)
        turned = np.rot90(pixels, -1)[8:32]
        assert np.array_equal(load_image(path, 24, 1)[0], turned)

    def test_resize_is_antialiased(self, tmp_path):
        stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
        array = load_image(save(tmp_path / "a.png", stripes), 16, 1)
        assert abs(array[0, 2:-2, 2:-2].astype(int) - 127).max() <= 2

    def test_pixels_beside_the_square_are_cropped_and_size_is_met(self, tmp_path):
        wide = np.full((10, 31), 255, dtype=np.uint8)
        wide[:, 10:20] = 0
        assert load_image(save(tmp_path / "a.png", wide), 20, 1).shape == (1, 20, 20)
        assert load_image(tmp_path / "a.png", 10, 1).max() == 0

    def test_jpeg_of_a_camera_with_a_preview(self, tmp_path):
        flat = Image.new("L", (8, 8), 77)
        path = save(
            tmp_path / "a.jpg",
            flat,
            format="MPO",
            save_all=True,
            append_images=[flat.resize((4, 4))],
        )
        assert Image.open(path).format == "MPO"
        assert (load_image(path, 8, 1) == 77).all()


def test_a_long_image_without_an_embryo_shows_its_centre(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGBA", (16, 5000), (9, 90, 200, 40)))
    array, found = load_framed(path, 8, 3, Crop("embryo"))
    assert (array[:, 4, 4].tolist(), found) == ([9, 90, 200], False)


def test_odd_metadata_of_a_turned_image_is_no_fault(tmp_path):
    # a width that is text, which Pillow reads and cannot write again
    entries = struct.pack("<HHI4s", 0x100, 2, 4, b"abc"), struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + bytes(4)
    path = save(tmp_path / "a.png", GREY, exif=exif)
    np.testing.assert_array_equal(load_image(path, 8, 1)[0], np.rot90(GREY, -1))


class TestRefused:
    def test_text_and_other_formats(self, tmp_path):
        (tmp_path / "text.png").write_text("not an image")
        save(tmp_path / "gif.png", GREY, format="GIF")
        (tmp_path / "empty.png").touch()
        for name in ("text.png", "gif.png", "empty.png"):
            with pytest.raises(UserError, match=f"{name}: no image in one of the formats PNG"):
                load_image(tmp_path / name, 8, 1)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
    def test_truncated(self, tmp_path, suffix):
        noise = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
        path = save(tmp_path / f"a.{suffix}", noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match=rf"a\.{suffix}: .*(take it out|convert it)"):
            load_image(path, 8, 1)

    @pytest.mark.parametrize("side", [8001, 10_000, 14_000, 60_000])
    def test_huge_header(self, tmp_path, side):
        (tmp_path / "a.png").write_bytes(png(side, side, b""))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserError, match="At most 64 megapixels are decoded"):
                load_image(tmp_path / "a.png", 8, 1)

    @pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
    def test_chunks_that_unpack_to_much(self, tmp_path, kind):
        packed = zlib.compress(bytes(80_000_000))
        text = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
        path = tmp_path / "a.png"
        path.write_bytes(png(8, 8, bytes(72), before=chunk(kind, text + packed)))
        tracemalloc.start()
        with contextlib.suppress(UserError):
            load_image(path, 8, 1)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
        tracemalloc.stop()

    def test_huge_file_is_not_read(self, tmp_path, monkeypatch):
        path = save(tmp_path / "a.png", GREY)
        monkeypatch.setattr(module, "MAX_BYTES", path.stat().st_size)
        load_image(path, 8, 1)
        monkeypatch.setattr(module, "MAX_BYTES", path.stat().st_size - 1)
        with pytest.raises(UserError, match=r"a\.png: a file of 0 MB, expected at most 0: save"):
            load_image(path, 8, 1)

    def test_the_largest_size_is_decoded(self, tmp_path, monkeypatch):
        path = save(tmp_path / "a.png", GREY)
        monkeypatch.setattr(module, "MAX_PIXELS", 64)
        load_image(path, 8, 1)
        monkeypatch.setattr(module, "MAX_PIXELS", 63)
        with pytest.raises(UserError, match="8x8 pixels"):
            load_image(path, 8, 1)

    @pytest.mark.parametrize(
        ("name", "options", "held"),
        [
            ("a.png", {}, 4),
            ("a.jpg", {}, 4),
            # coefficients of 16 bits beside the pixels
            ("a.jpg", {"progressive": True}, 4 + 6),
            ("a.tif", {}, 4),
            # turned in a copy; unpacked from a strip, of a file that is mapped
            ("a.tif", {"tiffinfo": {274: 6}}, 8),
            ("a.tif", {"compression": "tiff_lzw", "strip_size": 2**20}, 4 + 3),
            ("a.tif", {"compression": "tiff_lzw", "strip_size": 32 * 3 * 64}, 4 + 1.5),
        ],
    )
    def test_decoders_that_take_too_much_memory(self, tmp_path, monkeypatch, name, options, held):
        image = Image.fromarray(RGB).resize((64, 64))
        path = save(tmp_path / name, image, **options)
        mapped = path.stat().st_size if "compression" in options else 0
        monkeypatch.setattr(module, "MAX_DECODER_BYTES", 64 * 64 * held + mapped)
        load_image(path, 8, 1)
        monkeypatch.setattr(module, "MAX_DECODER_BYTES", 64 * 64 * held + mapped - 1)
        with pytest.raises(UserError, match=r"decoding it takes 0 MB, .* convert it to PNG"):
            load_image(path, 8, 1)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_several_frames(self, tmp_path, suffix):
        frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
        path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
        with pytest.raises(UserError, match="several frames, expected one"):
            load_image(path, 8, 1)

    def test_missing_and_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"none\.png: no such file"):
            load_image(tmp_path / "none.png", 8, 1)
        with pytest.raises(UserError, match="cannot be decoded"):
            load_image(tmp_path, 8, 1)

    @pytest.mark.parametrize(("resolution", "channels"), [(0, 1), (8, 2), (8, 4)])
    def test_shapes_that_cannot_be(self, tmp_path, resolution, channels):
        path = save(tmp_path / "a.png", GREY)
        with pytest.raises(UserError, match="expected a resolution of at least 1, and 1"):
            load_image(path, resolution, channels)


class TestPyramid:
    def test_means_are_exact_and_round_half_up(self):
        levels = torch.tensor([[0, 1, 2, 2], [0, 1, 2, 3], [255, 255, 0, 0], [255, 254, 0, 1]])
        levels = pyramid(levels.to(torch.uint8)[None, None], 1)
        assert list(levels) == [4, 2, 1]
        # 0.5, 2.25, 254.75, 0.25; then 1031 / 16 = 64.44
        assert levels[2].tolist() == [[[[1, 2], [255, 0]]]]
        assert levels[1].tolist() == [[[[64]]]]

    def test_rounding_does_not_add_up(self):
        image = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
        image[..., 0::2, 0::2] = 2  # means 0.5: rounded at each level, they would end at 1
        image[..., 0, 0] = 1  # 7 / 16
        assert pyramid(image, 1)[1].item() == 0
        assert pyramid(pyramid(image, 2)[2], 1)[1].item() == 1

    @pytest.mark.parametrize("chunk", [1, 100, 200, 2**22])
    def test_against_numpy_for_any_chunk(self, monkeypatch, chunk):
        monkeypatch.setattr(module, "_CHUNK_VALUES", chunk * 8)
        array = RNG.integers(0, 256, (7, 3, 16, 16), dtype=np.uint8)
        levels = pyramid(torch.from_numpy(array), 4)
        assert list(levels) == [16, 8, 4]
        for side, got in levels.items():
            blocks = array.reshape(7, 3, side, 16 // side, side, 16 // side).astype(np.float64)
            expected = np.floor(blocks.mean(axis=(3, 5)) + 0.5)
            np.testing.assert_array_equal(got.numpy(), expected)
            assert got.dtype == torch.uint8

    def test_white_stays_white_at_1024(self):
        white = torch.full((1, 1, 1024, 1024), 255, dtype=torch.uint8)
        assert all((level == 255).all() for level in pyramid(white, 1).values())

    @pytest.mark.parametrize(
        ("shape", "smallest"), [((1, 1, 12, 12), 4), ((1, 1, 8, 8), 3), ((1, 1, 8, 8), 16)]
    )
    def test_no_powers_of_two(self, shape, smallest):
        with pytest.raises(UserError, match="powers of two"):
            pyramid(torch.zeros(shape, dtype=torch.uint8), smallest)

    def test_images_that_cannot_be(self):
        for images in (torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 4, dtype=torch.uint8)):
            with pytest.raises(UserError, match="expected square uint8 images"):
                pyramid(images, 4)
