"""The texts that the encoder in `tfft/tiny` learned from, a line each, made from what their publishers offer.

    python recipes/tiny/texts.py --data FOLDER --wordnet FOLDER --vader FILE --conversations FOLDER --output texts.txt

- `--data`: GLUE's SST-2 and MRPC and the Semantic Textual Similarity Benchmark, training rows alone, and 1,999 reviews
  of IMDB, as `sst2/train.tsv`, `mrpc/train.tsv`, `stsb/train.tsv` and `imdb/reviews.csv`
- `--wordnet`: WordNet 3.0's `data.noun`, `data.verb`, `data.adj` and `data.adv` (Debian's wordnet-base has them)
- `--vader`: `hutto_ICWSM_2014.tar.gz`, of the source of vaderSentiment 3.3.2: sentences of product reviews, film
  reviews, editorials and tweets
- `--conversations`: `chatterbot_corpus/data/english`, of the source of chatterbot-corpus 1.3.3

The file of the encoder has 248,081 lines and 3.3 million words; its SHA-256 is in `tfft/tiny/README.md`.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import yaml

SHUFFLED_BY = 1
LEAST_WORDS, LEAST_WORDS_OF_PHRASES, MOST_WORDS = 3, 8, 100
SENTENCES_AT_ONCE = 2
_EXAMPLE = re.compile(r'"([^"]{15,})"')
_BEFORE_EXAMPLES = re.compile(r';\s*"')
_PLACE_OF_ADJECTIVE = re.compile(r"\(\w+\)$")
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def definitions(folder: Path) -> Iterator[str]:
    """Of each meaning up to three words for it and what they mean, then the examples."""
    for part in ("noun", "verb", "adj", "adv"):
        with (folder / f"data.{part}").open(encoding="latin-1") as file:
            for line in file:
                if line.startswith("  "):  # the licence
                    continue
                facts, _, gloss = line.partition("|")
                fields = facts.split()
                count = int(fields[3], 16)
                words = [_PLACE_OF_ADJECTIVE.sub("", fields[4 + 2 * at].replace("_", " ")) for at in range(count)]
                meaning = _BEFORE_EXAMPLES.split(gloss.strip())[0].strip().rstrip(";")
                yield f"{', '.join(words[:3])}: {meaning}"
                yield from _EXAMPLE.findall(gloss.strip())


def rows(path: Path, *columns: str) -> Iterator[str]:
    """Columns of a file with tabs between them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield from (row[column] for column in columns)


def similar_sentences(path: Path) -> Iterator[str]:
    """Both sentences of each pair of the similarity benchmark, which has more columns than its header."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            fields = line.split("\t")
            if len(fields) > 9:
                yield from fields[7:9]


def reviews(path: Path) -> Iterator[str]:
    """Reviews, two sentences at a time."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            sentences = _END_OF_SENTENCE.split(row["review"].replace("<br />", " "))
            for at in range(0, len(sentences), SENTENCES_AT_ONCE):
                words = " ".join(sentences[at : at + SENTENCES_AT_ONCE]).split()
                if len(words) > LEAST_WORDS:
                    yield " ".join(words[:MOST_WORDS])


def conversations(folder: Path) -> Iterator[str]:
    """What was said, and answered."""
    for path in sorted(folder.glob("*.yml")):
        for conversation in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            yield from (said for said in conversation if isinstance(said, str) and len(said.split()) >= LEAST_WORDS)


def rated_sentences(archive: Path) -> Iterator[str]:
    """Sentences that people rated, of four kinds of text."""
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            content = files.extractfile(member)
            if content is None or not member.name.endswith("GroundTruth.txt") or "/._" in member.name:
                continue
            for line in io.TextIOWrapper(content, encoding="utf-8", errors="replace"):
                fields = line.rstrip("\n").split("\t")
                if len(fields) >= 3 and len(fields[2].split()) >= LEAST_WORDS:
                    yield fields[2]


def gathered(data: Path, wordnet: Path, vader: Path, of_conversations: Path) -> list[str]:
    """All texts, each once however it is written, in random order."""
    phrases = (one for one in rows(data / "sst2" / "train.tsv", "sentence"))
    found: dict[str, str] = {}
    for text in (
        *definitions(wordnet),
        *(one for one in phrases if len(one.split()) >= LEAST_WORDS_OF_PHRASES),
        *rows(data / "mrpc" / "train.tsv", "#1 String", "#2 String"),
        *similar_sentences(data / "stsb" / "train.tsv"),
        *reviews(data / "imdb" / "reviews.csv"),
        *conversations(of_conversations),
        *rated_sentences(vader),
    ):
        on_one_line = " ".join(text.split())
        found.setdefault(on_one_line.lower(), on_one_line)
    texts = [text for text in found.values() if text]
    random.Random(SHUFFLED_BY).shuffle(texts)
    return texts


def main() -> None:
    """Writes the file, and says how much there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "wordnet", "vader", "conversations", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    texts = gathered(given.data, given.wordnet, given.vader, given.conversations)
    given.output.write_text("\n".join(texts) + "\n", encoding="utf-8")
    print(f"{given.output}: {len(texts):,} texts, {sum(len(one.split()) for one in texts):,} words")


if __name__ == "__main__":
    main()
