"""`python -m tfft.quickstart`: the recipe `quickstart`, then three sentences that the model has never seen."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tfft import command

NEW_SENTENCES = (
    "My parcel should have come on Monday, and the tracking page has not moved since.",
    "Why does my card statement show two payments for one month?",
    "The kettle came with a crack in its lid.",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, then shows what the model makes of the new sentences."""
    parser = argparse.ArgumentParser(
        prog="python -m tfft.quickstart",
        description="Fine-tune on the data that comes with tfft, then predict three new sentences. Needs no hub.",
    )
    parser.add_argument("--output-dir", default="runs/quickstart", help="folder of the run (default: runs/quickstart)")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is already there")
    arguments = parser.parse_args(argv)

    from tfft import console
    from tfft.fit import fit

    console.silence_libraries()
    result = fit("quickstart", output_dir=arguments.output_dir, overwrite=arguments.overwrite)
    rows = [
        [text, label, f"{probability:.2f}"]
        for text, (label, probability) in zip(NEW_SENTENCES, result.predict(NEW_SENTENCES), strict=True)
    ]
    console.Voice().table("Three new sentences", ["text", "intent", "probability"], rows)
    return 0


if __name__ == "__main__":
    command.run(main)
