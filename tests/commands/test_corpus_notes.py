from __future__ import annotations

import numpy as np
import pytest

from vnbench.commands.corpus import plan_corpus
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.gray_png import encode_mask
from vnbench.request.config import complete
from vnbench.request.reading import read_request

CPU = {"device_type": "cpu", "device_name": "Some CPU", "num_cpus": 2}


@pytest.mark.parametrize(
    ("most", "options", "told"),
    [(1, {}, "--task binary"), (2, {}, None), (1, {"classes": "3"}, None), (1, {"task": "binary"}, None)],
)
def test_masks_of_fewer_classes_than_the_network_learns_are_told(
    most: int, options: dict[str, str], told: str | None, corpus: Corpus
) -> None:
    (corpus.directory / "corpus.json").unlink(missing_ok=True)
    for index in range(len(corpus)):
        height, width = corpus.sizes_N2[index].tolist()
        mask = np.arange(height * width).reshape(height, width) % (most + 1)
        corpus.mask_path(index).write_bytes(encode_mask(mask.astype(np.uint8)))
    request = read_request({"images": str(corpus.directory), **options}, config_path=None)
    notes = " ".join(plan_corpus(complete(request, environment=CPU)).notes)
    assert ("the network learns" in notes) is (told is not None)
    assert told is None or f"write {told} if there are no others" in notes
