import numpy as np

from hwtune.board import distorted, examples
from hwtune.config import TrialConfig
from hwtune.pictures import BAD, TILE, confusion_picture, tiled


def test_the_first_rows_of_a_sheet_are_the_images_and_the_others_differ(digits):
    titles = examples(digits.images, digits.labels)
    assert titles.shape == (10, 8, 8)
    plain, *others = distorted(TrialConfig(rotation=15.0).to_dict(), titles)
    assert np.array_equal(plain, titles)
    assert len({each.tobytes() for each in others}) == len(others) == 4
    still = distorted(TrialConfig().to_dict(), titles)[1]
    assert np.abs(still.astype(int) - titles).max() <= 1
    sheet = tiled([plain, *others])
    assert sheet.shape == (5 * (TILE + 2), 10 * (TILE + 2))
    assert np.array_equal(sheet[1 : 1 + TILE : TILE // 8, 1 : 1 + TILE : TILE // 8], titles[0])


def test_the_worst_confusion_is_the_reddest_field(digits):
    titles = examples(digits.images, digits.labels)
    matrix = np.diag(np.full(10, 18)).tolist()
    matrix[3][8], matrix[1][7] = 4, 1
    picture = confusion_picture(matrix, titles)
    cell = TILE // 2

    def field(row, column):
        return picture[TILE + row * cell + 2, TILE + column * cell + 2].astype(int)

    assert np.abs(field(3, 8) - BAD).max() <= 1
    assert (field(3, 8) < field(1, 7)).all()
    assert (field(1, 7)[1:] < 255).all()
    assert (field(0, 5) == 255).all()
    assert (field(5, 5) == 255).all()
