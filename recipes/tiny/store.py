"""Stores a finished run's model as it lies in `tfft/tiny`: PyTorch's layout, which all libraries read, in float16.

python recipes/tiny/store.py runs/encoder tfft/tiny
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tfft.exports import pytorch
from tfft.models import checkpoint, load

KEPT = ("config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt")
# They say once more what those do.
LEFT_OUT = ("tokenizer.json", "special_tokens_map.json")


def store(run: Path, folder: Path) -> int:
    """Writes the model's files; what else lies in the folder stays. Returns how many bytes they have."""
    source = checkpoint.find(str(run / "model"))
    model = load.load_model(source, "TFAutoModelForMaskedLM").model
    tokenizer = checkpoint.load_tokenizer(source)
    folder.mkdir(parents=True, exist_ok=True)
    pytorch.write(model, tokenizer, folder)
    for name in LEFT_OUT:
        (folder / name).unlink(missing_ok=True)
    weights = folder / "model.safetensors"
    halved = {name: tensor.astype(np.float16) for name, tensor in load_file(weights).items()}
    save_file(halved, weights, metadata={"format": "pt"})
    return sum((folder / name).stat().st_size for name in KEPT)


def main() -> None:
    """Stores the model, and says how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("folder", type=Path, help="where the model goes")
    given = parser.parse_args()
    print(f"{given.folder}: {store(given.run, given.folder) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
