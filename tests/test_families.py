"""Every family whose models are told that they need no AutoGraph."""

from __future__ import annotations

import numpy as np
import pytest

from tests import families
from tfft.backend import tf
from tfft.models import load


@pytest.mark.parametrize("family", sorted(load.PLAIN_PYTHON))
def test_they_branch_on_no_tensor(family: str) -> None:
    """In a graph, where a branch on a tensor would be an error, they give what they give eagerly."""
    model = families.make(family)
    eager = model(families.INPUTS, training=False).logits
    model.call = tf.autograph.experimental.do_not_convert(model.call)
    in_graph = tf.function(lambda training: model(families.INPUTS, training=training).logits)
    np.testing.assert_allclose(in_graph(False), eager, atol=1e-5)
    assert in_graph(True).shape == eager.shape
