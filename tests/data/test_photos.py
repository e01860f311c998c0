import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hwtune.data.photos import longer_side, read_image
from hwtune.errors import DataError


def test_a_picture_is_brought_to_side_and_polarity(tmp_path):
    paper = np.full((40, 80), 230, np.uint8)
    paper[10:30, 30:50] = 20
    Image.fromarray(paper).save(tmp_path / "ink.png")
    read = read_image(tmp_path / "ink.png", 16)
    assert read.shape == (16, 16)
    assert read[0, 0] == read[-1, 0] == 0
    assert read[8, 8] == 233  # as far from black, of what was left, as the ink from the paper


@pytest.mark.parametrize(("paper", "ink"), [(255, 20), (200, 20), (127, 20), (110, 20), (60, 200)])
def test_however_bright_a_photo_its_paper_becomes_black_and_its_ink_light(tmp_path, paper, ink):
    photo = np.full((16, 16), paper, np.uint8)
    photo[4:12, 7] = ink
    Image.fromarray(photo).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", 16)
    assert not read[photo == paper].any()
    assert read[photo == ink].min() > 180


@pytest.mark.parametrize(("paper", "ink", "spot"), [(160, 90, 255), (200, 150, 255), (40, 90, 0)])
def test_a_spot_does_not_decide_what_is_ink(tmp_path, paper, ink, spot):
    random = np.random.default_rng(0)
    photo = (paper + random.normal(0, 8, (64, 64))).clip(1, 254).astype(np.uint8)
    photo[12:52, 31:34] = ink
    photo[5:8, 50:53] = spot
    Image.fromarray(photo).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", 64)
    assert np.median(read[12:52, 31:34]) > 40
    assert not read[5:8, 50:53].any()
    assert np.median(read) < 5


@pytest.mark.parametrize("ink", [40, 100])
def test_light_in_the_middle_of_the_paper_is_no_ink(tmp_path, ink):
    random = np.random.default_rng(0)
    away = np.hypot(*(np.mgrid[:64, :64] - 31.5)) / 45
    photo = (210 - 60 * away + random.normal(0, 4, (64, 64))).clip(0, 255).astype(np.uint8)
    photo[20:44, 32] = ink
    Image.fromarray(photo).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", 64)
    assert read[20:44, 32].min() > 40
    assert np.median(read) < 5


def test_a_picture_of_one_grey_is_empty(tmp_path):
    for grey in (0, 100, 255):
        Image.fromarray(np.full((16, 16), grey, np.uint8)).save(tmp_path / "a.png")
        assert not read_image(tmp_path / "a.png", 16).any()


def test_an_image_of_the_data_set_is_not_changed(tmp_path):
    image = np.zeros((16, 16), np.uint8)
    image[4:12, 7] = 200
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", 16), image)


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_transparency_is_light_on_black(tmp_path, ink):
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.paste((ink, ink, ink, 255), (6, 4, 9, 12))
    picture.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", 16)
    assert read[8, 7] == 255
    assert read[0, 0] == 0


@pytest.mark.parametrize(("page", "ink"), [(250, 20), (10, 240)])
@pytest.mark.parametrize("turn", [0, 5, 30, 45])
def test_a_page_with_transparency_around_it_keeps_its_paper(tmp_path, page, ink, turn):
    picture = Image.new("RGBA", (100, 100), (page, page, page, 255))
    picture.paste((ink, ink, ink, 255), (48, 20, 51, 80))
    around = Image.new("RGBA", (140, 140))
    around.paste(picture, (20, 20))
    (around if turn == 0 else picture.rotate(turn, expand=True)).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", 64)
    assert 0.005 < (read > 128).mean() < 0.03


def test_bold_ink_alone_may_fill_most_of_a_picture(tmp_path):
    picture = Image.new("RGBA", (16, 16))
    picture.paste((240, 240, 240, 255), (1, 1, 15, 13))
    picture.save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", 16) > 128).sum() == 14 * 12


@pytest.mark.parametrize("size", [(390, 3), (3, 390), (128, 1)])
def test_a_sliver_is_refused(tmp_path, size):
    Image.new("L", size).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=f"{size[0]}x{size[1]} pixels, no character's shape"):
        read_image(tmp_path / "a.png", 64)


def test_a_photo_of_almost_a_hundred_megapixels_is_opened_without_a_warning(tmp_path):
    Image.new("1", (9_900, 9_900)).save(tmp_path / "a.png")
    assert longer_side(tmp_path / "a.png") == 9_900


def test_a_photo_stands_as_its_camera_was_held_where_that_is_known(tmp_path):
    paper = np.full((16, 16), 255, np.uint8)
    paper[:8, :8] = 0
    photo, orientation = Image.fromarray(paper), Image.Exif()
    orientation[0x0112] = 6  # to be turned clockwise
    photo.save(tmp_path / "turned.jpg", exif=orientation)
    photo.save(tmp_path / "spoilt.jpg", exif=b"Exif\0\0no data at all", dpi=(72, 72))
    turned, spoilt = (read_image(tmp_path / f"{name}.jpg", 16) for name in ("turned", "spoilt"))
    assert turned[:8, 8:].mean() > 200
    assert spoilt[:8, :8].mean() > 200


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(DataError, match="a.jpg cannot be read as a picture"):
        read_image(tmp_path / "a.jpg", 16)
    with pytest.raises(DataError, match="absent.jpg is no file; give the path of a picture"):
        read_image(tmp_path / "absent.jpg", 16)


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    for path, wrong in ((tmp_path, "is a folder"), (tmp_path / "gone.png", "is a link to nothing")):
        with pytest.raises(DataError, match=f"{path.name} {wrong}; give the path of a picture"):
            read_image(path, 28)


def test_pages_of_a_scan_are_not_lost_but_the_first(tmp_path):
    first, second = (Image.new("L", (30, 30), grey) for grey in (0, 255))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    with pytest.raises(DataError, match="pages.tif has 2 pages; save each as a file of its own"):
        read_image(tmp_path / "pages.tif", 28)
    first.save(tmp_path / "page.tif")
    assert read_image(tmp_path / "page.tif", 28).shape == (28, 28)


def test_a_scan_of_sixteen_bits_keeps_its_greys(tmp_path):
    greys = np.linspace(0, 120, 256).astype(np.uint8).reshape(16, 16)
    greys[0] = greys[-1] = greys[:, 0] = greys[:, -1] = 0
    Image.fromarray(greys.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", 16), greys)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_scan_that_uses_some_of_sixteen_bits_keeps_its_ink(tmp_path, bits):
    ink = np.zeros((16, 16), np.uint16)
    ink[4:12, 7] = 2**bits - 1
    Image.fromarray(ink).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 16)[8, 7] == 255


def test_a_picture_of_an_unknown_range_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="a.tiff has 32 bits a pixel; save it with 8 or 16"):
        read_image(tmp_path / "a.tiff", 16)


def test_a_picture_whose_text_unpacks_to_too_much_is_refused(tmp_path):
    bomb = PngInfo()
    bomb.add_text("a", "b" * 2_000_000, zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=bomb)
    with pytest.raises(DataError, match="a.png cannot be read as a picture"):
        read_image(tmp_path / "a.png", 16)


def test_damage_anywhere_is_refused_in_a_line_or_harmless(tmp_path):
    random = np.random.default_rng(0)
    for ending in ("png", "jpg", "bmp", "webp", "tiff"):
        whole = tmp_path / f"whole.{ending}"
        Image.fromarray(random.integers(0, 256, (12, 12), np.uint8)).save(whole)
        content = np.frombuffer(whole.read_bytes(), np.uint8)
        refused = 0
        for _ in range(60):
            damaged = content.copy()
            damaged[random.integers(0, len(content), 8)] = random.integers(0, 256, 8)
            (tmp_path / "a").write_bytes(damaged.tobytes())
            try:
                assert read_image(tmp_path / "a", 12).shape == (12, 12)
            except DataError:
                refused += 1
        assert refused
