"""scikit-learn's bundled digits: 1,797 real 8x8 images (E. Alpaydin, C. Kaynak, UCI)."""

import numpy as np

from hwtune.data.images import Dataset


def read_digits() -> Dataset:
    """Return the digits with their 17 grey levels stretched over 0..255."""
    from sklearn.datasets import load_digits  # takes seconds to import

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return Dataset("digits", images, bunch.target.astype(np.int64), tuple("0123456789"))
