"""What the tests share: a tiny random checkpoint, a few rows, and a cache of their own."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tfft  # settles which Keras is used before anything loads TensorFlow
from tfft import environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FIXTURES = Path(__file__).resolve().parent / "fixtures"

assert tfft.__version__


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for cached token ids, so that no test sees what a user's runs have left, or leaves something.

    What it remembers of this processor's bfloat16 lets `auto` take float32: values by hand hold on every machine then.
    """
    folder = tmp_path_factory.mktemp("cache")
    processor = f"{environment.processor_name()}, TensorFlow {importlib.metadata.version('tensorflow')}"
    (folder / "bf16_speed.json").write_text(json.dumps({processor: 1.0, f"{processor} with XLA": 1.0}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFFT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Path:
    """A random BERT as PyTorch saves it, without a head: 2 layers, 16 wide, 100 tokens, 64 positions."""
    return FIXTURES / "tiny_bert_torch"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium without a window, for pages of ours. Where it is missing CI fails, and anyone else skips.

    It is closed after every module: while it is open, nobody in this process can run an asyncio loop.
    """
    path = shutil.which("chromium")
    if path is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("there is no chromium on PATH; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox does not work for root.
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()


def assert_names_nothing_outside(page: str) -> None:
    """What data say is text; tags and attributes are ours alone, and none of them names an address."""
    tags = " ".join(re.findall(r"<[a-z][^>]*>", page))
    addresses = set(re.findall(r"(?:src|href|action|data|poster)=\"([^\"]*)\"", tags))
    assert {one for one in addresses if not one.startswith("#")} == {"data:,"}
    assert "url(" not in page and "@import" not in page
    assert page.count("<script") == page.count("</script") == 1


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """What a full disk does: the system refuses to write on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
