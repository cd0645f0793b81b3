"""Every family whose models are told that they need no AutoGraph."""

from __future__ import annotations

import numpy as np
import pytest

from tests import families
from tfft.backend import tf
from tfft.models import load


@pytest.mark.parametrize("family", sorted(load.PLAIN_PYTHON))
def test_they_branch_on_no_tensor(family: str) -> None:
    """In a graph of any width, where a branch on a tensor would be an error, they give what they give eagerly."""
    model = families.make(family)
    eager = model(families.INPUTS, training=False).logits
    model.call = tf.autograph.experimental.do_not_convert(model.call)
    signature = {name: tf.TensorSpec([None, None], tf.int32) for name in families.INPUTS}
    for training in (False, True):

        @tf.function(input_signature=[signature], autograph=False)
        def in_graph(inputs: dict[str, tf.Tensor], training: bool = training) -> tf.Tensor:
            return model(inputs, training=training).logits

        found = in_graph(families.INPUTS)
        assert found.shape == eager.shape
        if not training:
            np.testing.assert_allclose(found, eager, atol=1e-5)
