"""Drop a document that is nearly one before: MinHash over 5-grams of words, 14 bands of 8.

The settings are those of FineWeb (Penedo et al. 2024, section 3.4). Two documents of which a share
s of all 5-grams is common (Jaccard) meet with probability 1 - (1 - s^8)^14: 5% at 0.5, 56% at 0.7,
92% at 0.8 and more than 99.9% at 0.9. Letters and digits count, in lower case."""

from typing import ClassVar, Final

import numpy as np

from llmscale.measure.text.clean import Compare
from llmscale.measure.text.words import Hashes, Words, hash_groups, ngrams, summed

_NGRAM: Final = 5
_BANDS: Final = 14
_ROWS: Final = 8
_SEED: Final = 1


class NearDuplicates(Compare):
    """Of documents that are nearly alike, the first is kept."""

    NEEDS: ClassVar[str | None] = "rensa"
    WIDTH: ClassVar[int] = _BANDS

    @property
    def version(self) -> str:
        """The version of the hashes in rensa."""
        from rensa import RMinHash

        return f"rensa {RMinHash.ALGORITHM_VERSION}"

    def marks(self, words: Words) -> Hashes:
        """A hash of each band (Broder 1997; Leskovec et al. 2014, section 3.4): (T, 14)."""
        shingles, sizes = _shingles(words)
        signature = _signature(shingles, sizes)
        bands = signature.reshape(-1, _ROWS)
        marks = hash_groups(bands.ravel(), np.full(len(bands), _ROWS)).reshape(-1, _BANDS)
        # The same hash in another band is another mark.
        return np.asarray(marks ^ np.arange(1, _BANDS + 1, dtype=np.uint64))


def _shingles(words: Words) -> tuple[Hashes, np.ndarray]:
    """The 5-grams of all documents, and how many each has. A document of fewer words has one hash
    of all of them."""
    has_letters = words.plain_W != 0
    plain = words.plain_W[has_letters]
    sizes = summed(has_letters.astype(np.int64), words.words_T)
    found, _ = ngrams(_NGRAM, plain, sizes)
    counts = np.maximum(sizes - _NGRAM + 1, 0)
    short = counts == 0
    if not short.any():
        return found, counts
    whole = hash_groups(plain, sizes)
    exact = hash_groups(words.exact_W, words.words_T)
    whole[sizes == 0] = exact[sizes == 0]  # documents of punctuation are not all alike
    ends = np.cumsum(counts)
    return np.insert(found, ends[short], whole[short]), counts + short


def _signature(shingles: Hashes, sizes: np.ndarray) -> Hashes:
    """The MinHash signatures of sets of hashes: (T, bands x rows)."""
    from rensa import RMinHash

    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(shingles, ends, _BANDS * _ROWS, _SEED)
    return np.array(rows.to_rows(), np.uint64).reshape(len(sizes), _BANDS * _ROWS)
